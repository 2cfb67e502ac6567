"""Measurements that users can repeat: ways of doing the same, side by side in one run.

Chains of post-processing on the same fusion, compared: `comparison` conducts the others.
"""
