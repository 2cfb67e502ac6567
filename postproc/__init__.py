"""Post-processing: steps and chains of steps that turn fused maps into label maps."""
