"""Ways to train a network, by name."""

from evaluation.core.specs import Table

TRAINERS = Table(
    "procedure",
    {
        "supervised": "members.trainers.supervised:supervised",
        "adversarial": "members.trainers.adversarial:adversarial",
        "staged": "members.trainers.staged:staged",
    },
)
