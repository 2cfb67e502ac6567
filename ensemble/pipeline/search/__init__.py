"""Searches: Optuna over the options of a recipe, cross-validation over mixtures of losses."""
