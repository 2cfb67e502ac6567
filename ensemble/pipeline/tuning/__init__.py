"""Tune post-processing: a search, and an exam of it on images that it did not see."""
