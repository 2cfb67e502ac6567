"""Frozen candidates: all that is needed to label new pictures elsewhere, in one folder."""
