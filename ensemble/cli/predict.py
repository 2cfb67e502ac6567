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
from members.external_networks.description import read_named_networks


@click.command("predict")
@click.option("--data", type=FILE, metavar="DATA", help="The images.")
@click.option("--split", metavar="NAME", help="Name of the new split in the run.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME=FILE",
    help="Add a network that was trained elsewhere, .onnx, .torchscript, .pt2 or .safetensors, and"
    " predict every split; repeatable. NAME={file: FILE, input_range: 0..1, ...}, or FILE.yaml"
    " beside it, says what the file cannot.",
)
@label_options
@layout_options
@jobs_options
@run_option
@json_option
def command(
    data: Path | None,
    split: str | None,
    networks: tuple[str, ...],
    labels: LabelOptions,
    layout: LayoutOptions,
    device: str,
    workers: int | None,
    run_path: Path | None,
    as_json: bool,
) -> None:
    """Write the maps of every trained member for another set of images.

    With --network alone, the networks join the run as members, and predict the images that it has.
    What a network's file leaves open is found out on the run's images and printed; where several
    readings are possible, they are listed and nothing is written: docs/from-other-frameworks.md.
    """
    from ensemble.pipeline.members.predict import predict_data, predict_networks

    run = resolve_run(run_path)
    added = read_named_networks(networks)
    if (data is None) != (split is None) or (data is None and not added):
        raise click.UsageError("give --data with --split, or --network NAME=FILE")
    if data is None or split is None:
        names = predict_networks(run, added, device=device, workers=workers, log=log)
    else:
        names = predict_data(
            run,
            data,
            split,
            networks=added,
            labels=labels,
            layout=layout,
            device=device,
            workers=workers,
            log=log,
        )
    document = {"run": str(run.path), "split": split, "members": names}
    predicted = "all splits" if split is None else split
    text = f"{run.path}: {predicted} predicted by {format_count(len(names), 'network')}"
    print_result(
        text, document, as_json=as_json, then=f"ens fuse --run {run.path} --strategy stacking"
    )
