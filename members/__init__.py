"""Networks, how they are trained, and the store of their probability maps."""
