"""Tune post-processing: search chains, and evaluate the search on images it did not see."""
