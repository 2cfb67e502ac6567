"""Metrics of where regions end, from label maps."""
