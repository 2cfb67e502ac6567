"""Confusion counts, protocols, intervals, comparisons: arrays in, numbers and pages out."""
