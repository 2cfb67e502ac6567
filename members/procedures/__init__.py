"""Ways to train a network, by name."""

from evaluation.ground.specs import Table

PROCEDURES = Table(
    "procedure",
    {
        "supervised": "members.procedures.supervised:supervised",
        "adversarial": "members.procedures.adversarial:adversarial",
        "staged": "members.procedures.staged:staged",
    },
)
