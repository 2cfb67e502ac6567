"""Whole runs: plan, status, and all stages one after the other."""
