"""Label maps as files that other programs read: CSV, run-length CSV, PNG."""
