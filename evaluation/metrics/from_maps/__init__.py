"""Metrics of probabilities, over the pixels whose truth is not the ignored class."""
