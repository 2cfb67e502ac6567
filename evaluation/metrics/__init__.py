"""Metrics by name: values of predictions per set, class, group and image.

A factory takes its options by keyword; a parameter `classes` is filled in with their number.
"""

from evaluation.core.specs import Table

METRICS = Table(
    "metric",
    {
        "iou": "evaluation.metrics.from_counts:iou",
        "dice": "evaluation.metrics.from_counts:dice",
        "precision": "evaluation.metrics.from_counts:precision",
        "recall": "evaluation.metrics.from_counts:recall",
        "specificity": "evaluation.metrics.from_counts:specificity",
        "mcc": "evaluation.metrics.from_counts:mcc",
        "pixel_accuracy": "evaluation.metrics.from_counts:pixel_accuracy",
        "mean_accuracy": "evaluation.metrics.from_counts:mean_accuracy",
        "cohens_kappa": "evaluation.metrics.from_counts:cohens_kappa",
        "frequency_weighted_iou": "evaluation.metrics.from_counts:frequency_weighted_iou",
        "boundary_iou": "evaluation.metrics.from_labels:boundary_iou",
        "surface_dice": "evaluation.metrics.from_labels:surface_dice",
        "hausdorff": "evaluation.metrics.from_labels:hausdorff",
        "hausdorff_95": "evaluation.metrics.from_labels:hausdorff_95",
        "assd": "evaluation.metrics.from_labels:assd",
        "log_loss": "evaluation.metrics.from_maps:log_loss",
        "brier": "evaluation.metrics.from_maps:brier",
        "ece": "evaluation.metrics.from_maps:ece",
        "adaptive_ece": "evaluation.metrics.from_maps:adaptive_ece",
        "max_calibration_error": "evaluation.metrics.from_maps:max_calibration_error",
        "classwise_ece": "evaluation.metrics.from_maps:classwise_ece",
        "risk_coverage": "evaluation.metrics.from_maps:risk_coverage",
    },
)
