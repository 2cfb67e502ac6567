"""Data sets: loading, checking, cleaning, splitting into folds, and the built-in sample."""
