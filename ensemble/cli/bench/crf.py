"""`ens bench crf`: the dense CRF beside pydensecrf and the exact field."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, json_option, show, tell
from evaluation.ground.layout import Run


@click.command("crf")
@click.option("--run", "run_path", type=FILE, metavar="RUN", help="Take a member's maps from it.")
@click.option("--member", metavar="NAME", help="Or a fusion; by default the first member.")
@click.option("--split", default="validation", show_default=True, metavar="SPLIT")
@click.option("--pictures", type=click.IntRange(1), default=24, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--sweep/--no-sweep", default=True, show_default=True, help="Go through sxy, srgb.")
@click.option("--colour/--no-colour", default=True, show_default=True, help="And photographs.")
@click.option("--torch", is_flag=True, help="Time the torch backend too.")
@json_option
def crf(
    run_path: Path | None,
    member: str | None,
    split: str,
    pictures: int,
    rounds: int,
    sweep: bool,
    colour: bool,
    torch: bool,
    as_json: bool,
) -> None:
    """Compare the dense CRF with pydensecrf and the exact field; without --run on drawn maps."""
    from ensemble.pipeline.bench.crf import as_text, bench_crf
    from ensemble.pipeline.bench.crf_cases import cases_of_run, colour_cases, drawn_cases

    if run_path is None:
        cases = drawn_cases(pictures)
    else:
        cases = cases_of_run(Run(run_path), member, split, pictures)
    photographs = colour_cases(pictures) if colour else None
    document = bench_crf(cases, rounds, colour=photographs, sweep=sweep, torch=torch, tell=tell)
    show(as_text(document), document, as_json=as_json)
