"""`ens report` and `ens overlay`: gather what a run holds; `evaluation.report` renders it."""
