"""Figures of the page: each function takes numbers and gives one SVG element."""
