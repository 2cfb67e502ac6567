"""What a GPU does for trainings, predictions and the dense CRF; see docs/gpu.md."""
