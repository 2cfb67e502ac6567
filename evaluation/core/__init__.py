"""What every room stands on: errors, specs, classes, files, provenance, locks, blocks."""
