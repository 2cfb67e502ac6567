"""Networks by name. A factory takes (channels, classes) and gives a module from pictures to logits."""

from evaluation.ground.specs import Table

ARCHITECTURES = Table(
    "architecture",
    {
        "unet": "members.architectures.unet:unet",
        "deeplab_v3_plus": "members.architectures.deeplab_v3_plus:deeplab_v3_plus",
    },
)
