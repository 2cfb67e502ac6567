"""Search over recipes: by Optuna over their options, and by cross-validation over loss mixtures."""
