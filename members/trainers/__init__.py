"""Ways to train a network, by name."""

from evaluation.core.specs import Table

TRAINERS = Table(
    "trainer",
    {
        "supervised": "members.trainers.supervised:supervised",
        "adversarial": "members.trainers.adversarial:adversarial",
        "staged": "members.trainers.supervised:staged",
        "distill": "members.trainers.distill:distill",
    },
)
