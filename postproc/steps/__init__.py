"""Post-processing steps by name. A factory may take `classes` and `ignore`.

It gives a `Step`, or what is `Learned` and becomes one.
"""

from evaluation.ground.specs import Table

STEPS = Table(
    "step",
    {
        "suppress_background": "postproc.steps.suppress_background:suppress_background",
        "class_bias": "postproc.steps.class_bias:class_bias",
        "crf": "postproc.steps.crf:crf",
        "blur": "postproc.steps.blur:blur",
        "mode_filter": "postproc.steps.mode_filter:mode_filter",
        "remove_small": "postproc.steps.remove_small:remove_small",
        "fill_holes": "postproc.steps.fill_holes:fill_holes",
        "open": "postproc.steps.opening:opening",
    },
)
