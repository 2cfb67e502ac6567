"""What each member is worth to the ensemble, how members differ, and where they are unsure."""
