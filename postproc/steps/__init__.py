"""Post-processing steps by name.

A factory takes its options by keyword. Where it has parameters `classes` (their number), `ignore`
(the class that is not scored, or None), `metric` (what is optimised, an
`evaluation.run_metric.SetMetric`; None is the masked mean IoU) or `floor` (default of the option of
that name), they are filled in. It returns a `Step`, or a `LearnedStep` that must be fitted first.
"""

from evaluation.core.specs import Table

STEPS = Table(
    "step",
    {
        "suppress_background": "postproc.steps.suppress_background:suppress_background",
        "class_bias": "postproc.steps.class_bias:class_bias",
        "threshold": "postproc.steps.threshold:threshold",
        "crf": "postproc.steps.crf:crf",
        "superpixel_vote": "postproc.steps.superpixel_vote:superpixel_vote",
        "blur": "postproc.steps.filters:blur",
        "median": "postproc.steps.filters:median",
        "mode_filter": "postproc.steps.filters:mode_filter",
        "remove_small": "postproc.steps.morphology:remove_small",
        "keep_largest": "postproc.steps.morphology:keep_largest",
        "fill_holes": "postproc.steps.morphology:fill_holes",
        "open": "postproc.steps.morphology:opening",
        "close": "postproc.steps.morphology:closing",
    },
)
