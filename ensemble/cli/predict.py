"""`ens predict`: maps of another set of images by trained members."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    jobs_options,
    json_option,
    label_options,
    layout_options,
    log,
    print_result,
    resolve_run,
    run_option,
)
from evaluation.core.errors import format_count
from evaluation.core.label_options import LabelOptions
from members.data.layouts import LayoutOptions


@click.command("predict")
@click.option("--data", required=True, type=FILE, metavar="DATA", help="The images.")
@click.option("--split", required=True, metavar="NAME", help="Name of the new split in the run.")
@label_options
@layout_options
@jobs_options
@run_option
@json_option
def command(
    data: Path,
    split: str,
    labels: LabelOptions,
    layout: LayoutOptions,
    device: str,
    workers: int | None,
    run_path: Path | None,
    as_json: bool,
) -> None:
    """Write the maps of every trained member for another set of images."""
    from ensemble.pipeline.members.train import predict_data

    run = resolve_run(run_path)
    names = predict_data(
        run,
        data,
        split,
        labels=labels,
        layout=layout,
        device=device,
        workers=workers,
        log=log,
    )
    document = {"run": str(run.path), "split": split, "members": names}
    text = f"{run.path}: {split} predicted by {format_count(len(names), 'network')}"
    print_result(
        text, document, as_json=as_json, then=f"ens fuse --run {run.path} --strategy stacking"
    )
