"""Cleaning: which images to drop and why, the page that shows it, and the file without them."""
