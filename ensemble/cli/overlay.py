"""`ens overlay`: draw labels over images."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.completion import complete_candidate
from ensemble.cli.options import (
    FILE,
    distinct,
    json_option,
    print_result,
    resolve_run,
    run_option,
)
from evaluation.core.errors import format_count


@click.command("overlay")
@click.option(
    "--candidate",
    "candidates",
    shell_complete=complete_candidate,
    required=True,
    multiple=True,
    callback=distinct,
    metavar="C",
    help="Candidate whose labels are drawn, such as mean_argmax; repeatable."
    " `ens status` lists all.",
)
@click.option(
    "--errors",
    "errors_of",
    multiple=True,
    metavar="C",
    help="Also draw which scored pixels this candidate has wrong, in red; repeatable.",
)
@click.option("--split", default="validation", show_default=True, help="Split of the images.")
@click.option("--out", required=True, type=FILE, metavar="F.png", help="The new file.")
@click.option(
    "--image",
    "ids",
    multiple=True,
    callback=distinct,
    metavar="ID",
    help="Draw this image; repeatable.",
)
@click.option(
    "--pick",
    type=click.Choice(["spread", "worst", "disputed"]),
    help="Images to draw without --image. spread, the default: evenly spaced. worst: highest error"
    " of the first candidate. disputed: highest disagreement of its members.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 200),
    default=12,
    show_default=True,
    help="Number of images to draw without --image.",
)
@click.option(
    "--opacity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Opacity of the labels over the image.",
)
@run_option
@json_option
def command(
    candidates: tuple[str, ...],
    errors_of: tuple[str, ...],
    split: str,
    out: Path,
    ids: tuple[str, ...],
    pick: Any,
    count: int,
    opacity: float,
    run_path: Path | None,
    as_json: bool,
) -> None:
    """Draw images with the target and candidates' labels over them, one row per image.

    A candidate is a member or fusion with a chain of post-processing steps.

    With --pick worst or disputed, the highest share comes first; the captions state it.
    """
    from ensemble.pipeline.report.overlay import overlay

    if ids and pick:
        raise click.UsageError("--image names them, --pick chooses them; give one")
    run = resolve_run(run_path)
    ids_drawn = overlay(
        run,
        candidates,
        split,
        out,
        errors_of=errors_of,
        ids=ids,
        pick=pick or "spread",
        count=count,
        opacity=opacity,
    )
    document = {"out": str(out), "split": split, "images": ids_drawn}
    print_result(
        f"{out}: {format_count(len(ids_drawn), 'image')} of {split}", document, as_json=as_json
    )
