"""Types, classes, errors, specs, provenance, locks, atomic files, and execution over blocks."""
