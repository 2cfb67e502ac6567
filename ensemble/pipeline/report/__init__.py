"""`ens report`: gathers what a run holds; `evaluation.report` draws it."""
