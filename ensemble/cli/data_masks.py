"""`ens data refine-masks` and `ens data disagreements`: labels that are missing, or look wrong."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, chosen_run, json_option, run_option, show
from members.data.refine import MAX_STD, RADIUS_PX, ROUNDS


@click.command("refine-masks", short_help="Grow labelled regions over even ground.")
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
    help="Highest standard deviation of grey values in a disc that counts as even.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    help="Grow by at most so many layers of one pixel.",
)
@click.option("--preview", type=FILE, metavar="F.png", help="Draw the masks that changed most.")
@json_option
def refine_masks(
    data: Path,
    out: Path,
    radius: int,
    max_std: float,
    rounds: int,
    preview: Path | None,
    as_json: bool,
) -> None:
    """Grow labelled regions over even ground, into a new file; existing labels stay."""
    from ensemble.pipeline.refining import as_text, refine_file

    document = refine_file(
        data, out=out, radius_px=radius, max_std=max_std, rounds=rounds, preview=preview
    )
    show(as_text(document), document, as_json=as_json, then=f"ens train-members --data {out}")


@click.command("disagreements", short_help="List masks that contradict the held-out models.")
@run_option
@click.option(
    "--member",
    default="all",
    show_default=True,
    metavar="NAME",
    help="Whose maps contradict; all: the mean of all members'.",
)
@click.option(
    "--count", type=click.IntRange(min=1), default=30, show_default=True, help="How many to list."
)
@click.option("--out", type=FILE, metavar="ids.txt", help="Write their ids, one per line.")
@click.option("--sheet", type=FILE, metavar="F.png", help="Draw them: picture, mask and guess.")
@json_option
def disagreements(
    run_path: Path | None,
    member: str,
    count: int,
    out: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """List training pictures whose masks contradict the models that were not trained on them."""
    from ensemble.pipeline.disagreements import as_text, find_disagreements

    run = chosen_run(run_path)
    document = find_disagreements(run, member=member, count=count, out=out, sheet=sheet)
    then = f"ens data disagreements --run {run.path} --count {count} --sheet disagreements.png"
    show(as_text(document), document, as_json=as_json, then=None if sheet else then)
