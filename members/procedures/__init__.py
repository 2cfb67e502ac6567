"""Ways to train a network, by name."""

from evaluation.ground.specs import Table

PROCEDURES = Table(
    "procedure",
    {
        "supervised": "members.procedures.supervised:supervised",
        "staged": "members.procedures.staged:staged",
    },
)
