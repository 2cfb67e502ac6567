"""`ens bench scale`: more images take more time, an image the same, and memory the same."""
