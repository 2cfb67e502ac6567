"""The whole job on the built-in sample, small enough for a minute or two on two cores."""

from ensemble.pipeline.experiment import Experiment

DEMO = Experiment(
    data="sample",
    drop_outliers=True,
    defaults={
        "epochs": 8,
        "optimizer": "adamw(lr=4e-3)",
        "loss": "cross_entropy(weights=frequency, power=0.5)",
        "oversample": 2,
    },
    members={
        "unet": {
            "architecture": "unet(width=6, depth=3)",
            "loss": "cross_entropy(ignored_weight=1)",
        },
        "unet_aspp": {"architecture": "unet(width=8, depth=3, bottleneck=aspp)"},
        "deeplab": {"architecture": "deeplab_v3_plus(width=4)"},
        "five": {"architecture": "specialists(unet(width=4, depth=3))", "epochs": 5},
    },
    fusions={"mean": "mean", "per_class_vote": "per_class_vote", "stacking": "stacking"},
    chains={
        "suppressed": "suppress_background",
        "crf": "suppress_background|crf(iterations=5, bilateral_compat=3)",
        "cleaned": "suppress_background|mode_filter(size=5)|remove_small(min_area_px=64)",
    },
)
