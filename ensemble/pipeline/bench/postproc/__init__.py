"""Chains of post-processing on the same fusion, compared: `comparison` conducts the others."""
