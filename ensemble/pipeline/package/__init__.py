"""Frozen candidates: all that is needed to label new images elsewhere, in one folder."""
