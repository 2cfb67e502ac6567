"""What a run's members are worth, cost, and disagree about."""
