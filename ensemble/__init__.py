"""Fusion strategies, the pipeline that conducts all rooms, and the `ens` command."""
