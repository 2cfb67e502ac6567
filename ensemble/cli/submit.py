"""`ens submit`: write a candidate's label maps as CSV, run lengths, PNG or NIfTI."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.completion import complete_candidate
from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    memory_option,
    print_result,
    resolve_run,
    run_option,
)
from evaluation.core.errors import format_count


@click.command("submit")
@click.option(
    "--candidate",
    shell_complete=complete_candidate,
    required=True,
    metavar="C",
    help="Candidate whose label maps are written; `ens status` lists all.",
)
@click.option("--split", default="test", show_default=True, help="Split to use.")
@click.option(
    "--out",
    required=True,
    type=FILE,
    metavar="F",
    help="The CSV file; for png and nifti a new folder.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "runs", "png", "nifti"]),
    default="csv",
    show_default=True,
    help="csv: a column per pixel. runs: run lengths. png: indices with a palette. nifti: a volume"
    " per case, with its source's geometry, and fused.json.",
)
@run_option
@memory_option
@json_option
def command(
    candidate: str, split: str, out: Path, file_format: Any, run_path: Path | None, as_json: bool
) -> None:
    """Write a candidate's label maps, and read them back as a check.

    csv: `id`, then one column per pixel, row by row. runs: `id,class,runs`, where runs are
    `start length ...`, pixels counted from 1, down the columns, as on Kaggle.
    """
    from ensemble.pipeline.submission.submit import submit

    run = resolve_run(run_path)
    result = submit(run, candidate, split, out, file_format, log=log)
    images, ignored = result.images, result.ignored_share
    if ignored:
        log(
            f"warning: {ignored:.2%} of the pixels have the ignored class, which is always wrong on"
            " a scored pixel; a chain with suppress_background leaves none"
        )
    document = {"out": str(out), "form": file_format, "images": images, "ignored_share": ignored}
    text, then = (
        f"{out}: {format_count(images, 'image')}, read back",
        f"ens status --run {run.path}",
    )
    print_result(text, document, as_json=as_json, then=then)
