"""Probability maps of other people's networks: their formats, their problems, and repairs."""
