"""Tune post-processing: a search, and an exam of it on pictures that it did not see."""
