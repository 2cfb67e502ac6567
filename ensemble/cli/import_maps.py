"""`ens import`: take probability maps of other networks as a member of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    label_options,
    layout_options,
    log,
    print_result,
    refuse_given,
    resolve_run,
    run_option,
)
from evaluation.core.errors import format_count
from evaluation.core.label_options import LabelOptions
from evaluation.core.run_folder import Run
from members.data.layouts import LayoutOptions

SAID_BY_NNUNET = ("split", "trained_on", "key", "validation")


@click.command("import")
@click.argument("paths", type=FILE, nargs=-1, required=True, metavar="PATHS...")
@click.option(
    "--nnunet",
    is_flag=True,
    help="PATHS are folders that nnU-Net trained; the maps of their cross-validation become members"
    " named by their configurations.",
)
@click.option("--name", metavar="N", help="Name of the member.")
@click.option("--split", metavar="S", help="Split of the images: oof, validation, test.")
@click.option(
    "--trained-on",
    type=FILE,
    metavar="IDS.txt",
    help="Ids of the images of the run it was trained on, one per line.",
)
@click.option("--key", metavar="NAME", help="Array of the maps in files that hold several.")
@click.option(
    "--class-names",
    metavar="A,B,...",
    help="Classes of the maps in their order; by default the run's, or the file's `classes`.",
)
@click.option(
    "--normalise",
    is_flag=True,
    help="Divide by sums that are far from 1: sigmoids of classes that exclude each other.",
)
@click.option("--fix", is_flag=True, help="Repair detected problems of the maps.")
@click.option(
    "--no-checks",
    is_flag=True,
    help="Keep the order of classes, axes and images in spite of warnings; read missing Zarr chunks"
    " as their fill value.",
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="Images of the split without maps: skip them, and `ens fuse --missing` says how to go on.",
)
@click.option("--data", metavar="DATA", help="Create a new run with this labelled set.")
@click.option("--validation", metavar="DATA", help="With --data: its validation set.")
@click.option("--store", metavar="URL", help="With --data: an object store for the run's maps.")
@label_options
@layout_options
@run_option
@json_option
def command(
    paths: tuple[Path, ...],
    *,
    nnunet: bool,
    name: str | None,
    split: str | None,
    class_names: str | None,
    data: str | None,
    validation: str | None,
    store: str | None,
    labels: LabelOptions,
    layout: LayoutOptions,
    run_path: Path | None,
    as_json: bool,
    **reading: Any,
) -> None:
    """Import the maps of one split from PATHS: probabilities, logits or label maps.

    PATHS are one stack (image, class, row, col), or one file per image or case, or folders of them,
    named by the images' ids; all names may end in _probs, _logits, _pred and the like. Arrays come
    as .npy, .npz, .pt, .safetensors, NIfTI or Zarr, label maps as .png or .tif too. Classes may be
    on the last axis. Of two classes, one channel is the probability of the foreground. A class that
    is left out has what the others leave to 1.

    Maps of another size are resized to their image: bilinear, pixel edges aligned
    (align_corners=False), logits before the softmax; label maps by the nearest pixel.

    A stack without `ids` must be in the order of the split's index.csv, and agree with the target
    or the other members better in this order than in others.

    Problems are refused with the evidence, and repaired by --fix: logits, sums that are not 1, a
    permuted or shifted class order, flipped axes, images that the split lacks.

    --nnunet reads dataset.json, plans.json and fold_K/validation/*.npz (training with --npz). Each
    image was predicted by the fold that did not train on its case, and the member says so. With
    --data, nnU-Net's raw data set, a new run takes over the folds.

    --trained-on lists the images of the run that the networks were trained on; the file is empty
    if all maps are held out. What learns from maps refuses those images, and warns where nothing
    is declared.
    """
    from ensemble.pipeline.data.prepare import run_classes
    from ensemble.pipeline.members.importing import import_maps, init_run

    _check_goes_with_data(data, run_path, validation=validation, store=store, layout=layout)
    names = class_names and [part.strip() for part in class_names.split(",")]
    if nnunet:
        refuse_given("is said by nnU-Net's folders; leave it out", *SAID_BY_NNUNET)
        if labels or layout:
            raise click.UsageError("dataset.json says classes and layout; leave those options out")
        run = Run(run_path) if run_path and data else resolve_run(run_path)
        _import_nnunet(run, paths, name, names, data, store, as_json=as_json, **reading)
        return
    if name is None or split is None:
        raise click.UsageError("give --name and --split, or --nnunet")
    if run_path and data:
        run = Run(run_path)
        init_run(run, data, validation, store, log, labels, layout)
    else:
        run = resolve_run(run_path)
        if labels:
            labels.check_against(run_classes(run))
    document = import_maps(run, name, paths, split=split, class_names=names, log=log, **reading)
    text = f"{run.path}: {format_count(document['images'], 'map')} of {split} imported as {name}"
    print_result(text, document, as_json=as_json, then=f"ens plan --run {run.path}")


def _check_goes_with_data(data: str | None, run_path: Path | None, **given: object) -> None:
    """Refuse options of a new run without its data, and data without a folder for the run."""
    if data and run_path is None:
        raise click.UsageError("--data creates a new run; name its folder by --run")
    for option, value in given.items():
        if value and not data:
            is_layout = option == "layout"
            shown = "options about the layout of images go" if is_layout else f"--{option} goes"
            raise click.UsageError(f"{shown} with --data")


def _import_nnunet(
    run: Run,
    paths: tuple[Path, ...],
    name: str | None,
    names: Sequence[str] | None,
    data: str | None,
    store: str | None,
    *,
    as_json: bool,
    **reading: Any,
) -> None:
    from ensemble.pipeline.members.importing import ImportOptions
    from ensemble.pipeline.members.nnunet import import_nnunet

    keys = ("normalise", "fix", "no_checks", "missing")
    options = ImportOptions(names, **{key: reading[key] for key in keys})
    documents = import_nnunet(
        run, paths, name=name, data=data, store=store, options=options, log=log
    )
    parts = [
        f"{format_count(part['images'], 'map')} of {part['split']} as {part['member']}"
        for part in documents
    ]
    text = f"{run.path}: imported {', '.join(parts)}"
    then = f"ens fuse --run {run.path} --strategy weighted_mean"
    print_result(text, {"imported": documents}, as_json=as_json, then=then)
