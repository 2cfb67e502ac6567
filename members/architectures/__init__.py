"""Networks by name: a factory takes (channels, classes), its module turns pictures into logits."""

from evaluation.ground.specs import Table

ARCHITECTURES = Table(
    "architecture",
    {
        "unet": "members.architectures.unet:unet",
        "deeplab_v3_plus": "members.architectures.deeplab_v3_plus:deeplab_v3_plus",
    },
)
