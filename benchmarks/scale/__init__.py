"""Time and memory per image up to 100,000 images: `python -m benchmarks.scale`."""
