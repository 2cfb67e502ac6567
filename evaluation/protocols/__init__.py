"""Protocols by name: public definitions of the score."""

from evaluation.ground.specs import Table

PROTOCOLS = Table(
    "protocol",
    {
        "masked": "evaluation.protocols.masked:masked",
        "keras": "evaluation.protocols.keras:keras",
        "sklearn": "evaluation.protocols.sklearn:sklearn",
        "monai": "evaluation.protocols.monai:monai",
        "huggingface": "evaluation.protocols.huggingface:huggingface",
        "mmseg": "evaluation.protocols.mmseg:mmseg",
        "smp": "evaluation.protocols.smp:smp",
        "nnunet": "evaluation.protocols.nnunet:nnunet",
        "micro": "evaluation.protocols.micro:micro",
        "per_picture": "evaluation.protocols.per_picture:per_picture",
    },
)
