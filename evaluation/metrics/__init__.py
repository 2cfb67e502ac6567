"""Metrics by name: values of predictions per set, class, group and image."""

from evaluation.core.specs import Table

METRICS = Table(
    "metric",
    {
        "iou": "evaluation.metrics.from_counts:iou",
        "dice": "evaluation.metrics.from_counts:dice",
        "precision": "evaluation.metrics.from_counts:precision",
        "recall": "evaluation.metrics.from_counts:recall",
        "pixel_accuracy": "evaluation.metrics.from_counts:pixel_accuracy",
        "mean_accuracy": "evaluation.metrics.from_counts:mean_accuracy",
        "cohens_kappa": "evaluation.metrics.from_counts:cohens_kappa",
        "frequency_weighted_iou": "evaluation.metrics.from_counts:frequency_weighted_iou",
        "boundary_iou": "evaluation.metrics.from_labels:boundary_iou",
        "surface_dice": "evaluation.metrics.from_labels:surface_dice",
        "hausdorff_95": "evaluation.metrics.from_labels:hausdorff_95",
        "log_loss": "evaluation.metrics.from_maps:log_loss",
        "brier": "evaluation.metrics.from_maps:brier",
        "ece": "evaluation.metrics.from_maps:ece",
        "classwise_ece": "evaluation.metrics.from_maps:classwise_ece",
        "risk_coverage": "evaluation.metrics.from_maps:risk_coverage",
    },
)
