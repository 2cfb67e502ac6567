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
        "superpixel_vote": "postproc.steps.superpixel_vote:superpixel_vote",
        "blur": "postproc.steps.blur:blur",
        "median": "postproc.steps.median:median",
        "mode_filter": "postproc.steps.mode_filter:mode_filter",
        "remove_small": "postproc.steps.remove_small:remove_small",
        "keep_largest": "postproc.steps.keep_largest:keep_largest",
        "fill_holes": "postproc.steps.fill_holes:fill_holes",
        "open": "postproc.steps.opening:opening",
        "close": "postproc.steps.closing:closing",
    },
)
