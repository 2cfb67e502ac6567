"""`ens data`: look at data sets, clean them, and import them."""

from pathlib import Path

import click

from ensemble.cli import data_clean, data_masks
from ensemble.cli.options import FILE, json_option, show


@click.group("data")
def command() -> None:
    """Inspect, clean, refine and import data sets."""


command.add_command(data_clean.command)
command.add_command(data_masks.refine_masks)
command.add_command(data_masks.disagreements)


@command.command("inspect", short_help="Tell shapes, class shares, groups and shared masks.")
@click.argument("data", type=FILE)
@json_option
def inspect_data(data: Path, as_json: bool) -> None:
    """Tell shapes, class shares, background, groups, and masks that many pictures share."""
    from members.data.inspect import as_text, inspect

    document = inspect(data)
    show(as_text(document), document, as_json=as_json, then=f"ens train-members --data {data}")


@command.command("import-ai4mars", short_help="Cut an AI4Mars tree into tiles.")
@click.argument("folder", type=FILE, metavar="DIR")
@click.option("--out", required=True, type=FILE, metavar="F.npz", help="The new file.")
@click.option(
    "--scale", default="1/4", show_default=True, help="Factor to shrink pictures by, 1/K."
)
@click.option(
    "--tile", default="64x128", show_default=True, help="Rows x columns of a tile, in pixels."
)
@click.option(
    "--max-null",
    type=click.FloatRange(0, 1),
    default=0.75,
    show_default=True,
    help="Leave out tiles with a larger unlabelled share.",
)
@json_option
def import_ai4mars_tree(
    folder: Path, out: Path, scale: str, tile: str, max_null: float, as_json: bool
) -> None:
    """Cut an AI4Mars tree (msl/images, msl/labels) into tiles, as a .npz that every verb reads."""
    from ensemble.pipeline.asked import read_share, read_size
    from members.data.ai4mars import import_ai4mars

    tiles = import_ai4mars(
        folder, out, scale=read_share(scale), tile=read_size(tile), max_null=max_null
    )
    document = {"out": str(out), "tiles": tiles}
    show(f"{out}: {tiles} tiles", document, as_json=as_json, then=f"ens data inspect {out}")
