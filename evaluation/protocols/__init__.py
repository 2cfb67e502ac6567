"""Protocols by name: public definitions of the score. A factory takes no options so far."""

from evaluation.ground.specs import Table

PROTOCOLS = Table(
    "protocol",
    {
        "masked": "evaluation.protocols.masked:masked",
        "keras": "evaluation.protocols.keras:keras",
    },
)
