"""`ens data`: inspect, clean and import data sets; find labels that are missing or look wrong."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    FILE,
    LABEL_OPTIONS,
    LAYOUT_OPTIONS,
    given_options,
    json_option,
    label_options,
    layout_options,
    log,
    print_result,
    resolve_run,
    run_option,
)
from evaluation.core.label_options import LabelOptions
from members.data.layouts import LayoutOptions
from members.data.refine_masks import MAX_STD, RADIUS_PX, ROUNDS


@click.group("data")
def command() -> None:
    """Inspect, clean, refine and import data sets.

    DATA is an .npz with `images` and `masks` (optionally `group` and `source`), the Mars
    competition's .npz, or a folder: images/ beside masks/, NAME.png beside NAME_mask.png, a
    train/val/test tree, CamVid, Cityscapes, Pascal VOC, ADE20K, COCO, nnU-Net and others, see
    docs/data.md. --images and --masks read anything else.
    """


@command.command("clean", short_help="Find images to drop, and write the rest.")
@click.argument("data", type=FILE)
@click.option("--drop", type=FILE, metavar="IDS.txt", help="Ids to drop, one per line; # comments.")
@click.option("--keep", type=FILE, metavar="IDS.txt", help="Ids that must not be dropped.")
@click.option(
    "--distance",
    type=click.IntRange(0, 64),
    default=10,
    show_default=True,
    help="Near-duplicates: maximum number of differing bits of the 64-bit perceptual hashes.",
)
@click.option(
    "--alike",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Near-duplicates: minimum correlation of the thumbnails.",
)
@click.option(
    "--novelty",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the rest to drop as most unusual (one-class SVM); 0 only shows them.",
)
@click.option(
    "--page",
    type=FILE,
    metavar="DIR",
    default="cleaning",
    show_default=True,
    help="Folder for the page and the lists of dropped images.",
)
@click.option("--apply", "applied", is_flag=True, help="Write the remaining images to --out.")
@click.option("--out", type=FILE, metavar="F.npz", help="The new file, with --apply.")
@label_options
@layout_options
@json_option
def clean(
    data: Path,
    drop: Path | None,
    keep: Path | None,
    distance: int,
    alike: float,
    novelty: float,
    page: Path,
    applied: bool,
    out: Path | None,
    labels: LabelOptions,
    layout: LayoutOptions,
    as_json: bool,
) -> None:
    """Find images to drop, show each with the reason, and write the rest with --apply.

    Dropped are the images in --drop, images that share one non-constant mask, and all but one of
    each set of near-duplicates. DATA itself is not changed.
    """
    if applied != (out is not None):
        raise click.UsageError("--apply and --out FILE.npz go together")
    from ensemble.pipeline.data.clean import clean_data, format_cleaning
    from members.data.cleaning.rules import Rules

    rules = Rules(distance=distance, alike=alike, novelty=novelty)
    document = clean_data(
        data, page=page, rules=rules, drop=drop, keep=keep, out=out, labels=labels, layout=layout
    )
    then = None if out is None else f"ens train-members --data {out}"
    print_result(format_cleaning(document), document, as_json=as_json, then=then)


@command.command("refine-masks", short_help="Grow labelled regions over homogeneous regions.")
@click.argument("data", type=FILE)
@click.option("--out", required=True, type=FILE, metavar="NEW.npz", help="The new file.")
@click.option(
    "--radius",
    type=click.IntRange(1, 32),
    default=RADIUS_PX,
    show_default=True,
    help="Radius of the disc around a pixel, in pixels.",
)
@click.option(
    "--max-std",
    type=click.FloatRange(0, 255),
    default=MAX_STD,
    show_default=True,
    help="Highest standard deviation of grey values in a homogeneous disc.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    help="Maximum number of one-pixel layers to grow by.",
)
@click.option("--preview", type=FILE, metavar="F.png", help="Draw the masks that changed most.")
@label_options
@layout_options
@json_option
def refine_masks(
    data: Path,
    out: Path,
    radius: int,
    max_std: float,
    rounds: int,
    preview: Path | None,
    labels: LabelOptions,
    layout: LayoutOptions,
    as_json: bool,
) -> None:
    """Grow labelled regions over homogeneous regions, into a new file; existing labels stay."""
    from ensemble.pipeline.data.clean import format_refinement, refine_file

    document = refine_file(
        data,
        out=out,
        radius_px=radius,
        max_std=max_std,
        rounds=rounds,
        preview=preview,
        labels=labels,
        layout=layout,
    )
    print_result(
        format_refinement(document),
        document,
        as_json=as_json,
        then=f"ens train-members --data {out}",
    )


@command.command("disagreements", short_help="List masks that contradict the out-of-fold maps.")
@run_option
@click.option(
    "--member",
    default="all",
    show_default=True,
    metavar="NAME",
    help="Member whose maps are compared with the masks; all: the mean of all members.",
)
@click.option(
    "--by",
    type=click.Choice(["score", "log_loss", "softmin", "calibrated", "pixels"]),
    default="calibrated",
    show_default=True,
    help="What ranks: the mean probability of other classes, the log-loss, cleanlab's softmin, the"
    " calibrated margin in the worst region, or the share of confidently contradicted pixels.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Number of images to list.",
)
@click.option("--out", type=FILE, metavar="ids.txt", help="Write their ids, one per line.")
@click.option(
    "--sheet",
    type=FILE,
    metavar="F.png",
    help="Draw them: image, mask, prediction and doubtful pixels.",
)
@click.option(
    "--pixels",
    type=FILE,
    metavar="DIR",
    help="Write a PNG for each: 255 where another class is predicted confidently, else 0.",
)
@json_option
def disagreements(
    run_path: Path | None,
    member: str,
    by: Any,
    count: int,
    out: Path | None,
    sheet: Path | None,
    pixels: Path | None,
    as_json: bool,
) -> None:
    """List training images whose masks contradict the models that were not trained on them."""
    from ensemble.pipeline.analysis.label_disagreement import (
        find_disagreements,
        format_disagreements,
    )

    run = resolve_run(run_path)
    report = find_disagreements(
        run, member=member, by=by, count=count, out=out, sheet=sheet, pixels=pixels, log=log
    )
    then = f"ens data disagreements --run {run.path} --count {count} --sheet disagreements.png"
    text = format_disagreements(report)
    print_result(text, report.to_dict(), as_json=as_json, then=None if sheet else then)


@command.command("inspect", short_help="Show shapes, class shares, groups and shared masks.")
@click.argument("data", type=FILE)
@label_options
@layout_options
@json_option
def inspect_data(data: Path, labels: LabelOptions, layout: LayoutOptions, as_json: bool) -> None:
    """Show the layout, shapes, class shares, background, groups, and masks that images share."""
    from members.data.inspect import format_inspection, inspect_dataset

    document = inspect_dataset(data, labels=labels, layout=layout)
    print_result(
        format_inspection(document),
        document,
        as_json=as_json,
        then=f"ens train-members --data {data}{given_options(*LABEL_OPTIONS, *LAYOUT_OPTIONS)}",
    )


@command.command("import-ai4mars", short_help="Cut an AI4Mars tree into tiles.")
@click.argument("folder", type=FILE, metavar="DIR")
@click.option("--out", required=True, type=FILE, metavar="F.npz", help="The new file.")
@click.option("--scale", default="1/4", show_default=True, help="Factor to shrink images by, 1/K.")
@click.option(
    "--tile", default="64x128", show_default=True, help="Rows x columns of a tile, in pixels."
)
@click.option(
    "--max-null",
    type=click.FloatRange(0, 1),
    default=0.75,
    show_default=True,
    help="Skip tiles with a larger unlabelled share.",
)
@json_option
def import_ai4mars_tree(
    folder: Path, out: Path, scale: str, tile: str, max_null: float, as_json: bool
) -> None:
    """Cut an AI4Mars tree (msl/images, msl/labels) into tiles, as a .npz for every command."""
    from ensemble.pipeline.run.experiment import parse_fraction, read_size
    from members.data.ai4mars import import_ai4mars

    tiles = import_ai4mars(
        folder, out, scale=parse_fraction(scale), tile=read_size(tile), max_null=max_null
    )
    document = {"out": str(out), "tiles": tiles}
    print_result(f"{out}: {tiles} tiles", document, as_json=as_json, then=f"ens data inspect {out}")
