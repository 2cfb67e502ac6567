"""`ens report`: one HTML page of the scored candidates."""

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


@click.command("report")
@run_option
@click.option(
    "--candidate",
    shell_complete=complete_candidate,
    metavar="C",
    help="Candidate that the report explains; by default the one chosen on oof (out-of-fold).",
)
@click.option("--split", default="validation", show_default=True, help="Split to evaluate on.")
@click.option(
    "--out", type=FILE, metavar="F.html", help="The page; by default RUN/report/index.html."
)
@click.option(
    "--figures", type=FILE, metavar="DIR", help="Also write each figure to DIR, as SVG and CSV."
)
@memory_option
@json_option
def command(
    run_path: Path | None,
    candidate: str | None,
    split: str,
    out: Path | None,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Write one HTML page about the scored candidates; it opens from disk, without network.

    First what was compared, chosen and gained, and what it costs; then the leaderboard as a forest
    plot, classes, cost, members, training, and the images that deserve a look.
    """
    from ensemble.pipeline.report.report import report

    run = resolve_run(run_path)
    result = report(run, split=split, candidate=candidate, out=out, figures=figures, log=log)
    page, chosen = result.page, result.candidate
    document: dict[str, Any] = {"run": str(run.path), "page": str(page), "candidate": chosen}
    text = f"{page}: {page.stat().st_size / 1e6:.1f} MB, explains {chosen}"
    if figures is not None:
        document["figures"] = [str(file) for file in result.figures]
        text += f"\n{figures}: {len(result.figures) // 2} figures, as SVG and CSV"
    print_result(
        text,
        document,
        as_json=as_json,
        then=f"ens freeze --run {run.path} --candidate {chosen} --out DIR",
    )
