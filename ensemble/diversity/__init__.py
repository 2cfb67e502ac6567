"""How members differ, and what each is worth to the ensemble."""
