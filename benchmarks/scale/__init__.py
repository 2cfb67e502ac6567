"""`ens bench scale`: more pictures take more time, a picture the same, and memory the same."""
