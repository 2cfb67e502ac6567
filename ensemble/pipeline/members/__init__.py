"""Members of a run: trained here, or imported as maps."""
