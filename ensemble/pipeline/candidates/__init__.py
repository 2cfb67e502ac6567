"""Candidates of a run: fused, post-processed, and known to be current or stale."""
