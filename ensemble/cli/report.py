"""`ens report`: the page that people look at."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    print_result,
    resolve_run,
    run_option,
)


@click.command("report")
@run_option
@click.option(
    "--candidate", metavar="C", help="Whose story is told; by default the one chosen on oof."
)
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@click.option(
    "--out", type=FILE, metavar="F.html", help="The page; by default RUN/report/index.html."
)
@click.option("--figures", type=FILE, metavar="DIR", help="Also write each figure to DIR, as SVG.")
@json_option
def command(
    run_path: Path | None,
    candidate: str | None,
    split: str,
    out: Path | None,
    figures: Path | None,
    as_json: bool,
) -> None:
    """Write one HTML page of what `ens score` has scored; it opens from disk, with no network.

    The leaderboard, what each stage gained (pixels against denominator), classes, confidence,
    members, cost, training, a gallery to walk through, and images that deserve a second look.
    """
    from ensemble.pipeline.report.report import report

    run = resolve_run(run_path)
    page, chosen, drawn = report(
        run, split=split, candidate=candidate, out=out, figures=figures, log=log
    )
    document: dict[str, Any] = {"run": str(run.path), "page": str(page), "candidate": chosen}
    text = f"{page}: {page.stat().st_size / 1e6:.1f} MB, the story of {chosen}"
    if figures is not None:
        document["figures"] = [str(file) for file in drawn]
        text += f"\n{figures}: {len(drawn)} figures"
    print_result(
        text,
        document,
        as_json=as_json,
        then=f"ens freeze --run {run.path} --candidate {chosen} --out DIR",
    )
