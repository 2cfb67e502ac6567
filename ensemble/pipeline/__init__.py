"""What `run`, `train-members`, `fuse`, `postprocess`, `score` and the other verbs conduct."""
