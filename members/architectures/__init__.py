"""Architectures by name.

A factory takes the number of channels and of classes and returns a module that maps images
(N, channels, H, W) to logits (N, classes, H, W). Its `stride` divides the H and W it accepts. With
deep supervision the module returns several logits in training, the main output first.
"""

from evaluation.core.specs import Table

ARCHITECTURES = Table(
    "architecture",
    {
        "unet": "members.architectures.unet:unet",
        "unet_plus_plus": "members.architectures.unet_plus_plus:unet_plus_plus",
        "double_unet": "members.architectures.double_unet:double_unet",
        "hierarchical_unet": "members.architectures.hierarchical_unet:hierarchical_unet",
        "basnet": "members.architectures.basnet:basnet",
        "deeplab_v3_plus": "members.architectures.deeplab_v3_plus:deeplab_v3_plus",
        "pan": "members.architectures.pan:pan",
        "segnet": "members.architectures.segnet:segnet",
        "efferdeepnet": "members.architectures.efferdeepnet:efferdeepnet",
        "segformer": "members.architectures.segformer:segformer",
        "hierarchical_attention": (
            "members.architectures.hierarchical_attention:hierarchical_attention"
        ),
        "pix2pix": "members.architectures.unet:pix2pix",
        "mars_seg": "members.architectures.mars_seg:mars_seg",
    },
)
