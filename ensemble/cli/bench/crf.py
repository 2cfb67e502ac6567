"""`ens bench crf`: the dense CRF beside pydensecrf and the exact field."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, json_option, rounds_option, show, tell
from evaluation.ground.layout import Run


@click.command("crf", short_help="The dense CRF against pydensecrf and exact.")
@click.option("--run", "run_path", type=FILE, metavar="RUN", help="Take maps from this run.")
@click.option("--member", metavar="NAME", help="Member or fusion; by default the first member.")
@click.option("--split", default="validation", show_default=True, help="Of which pictures.")
@click.option(
    "--pictures", type=click.IntRange(1), default=24, show_default=True, help="How many pictures."
)
@rounds_option(7)
@click.option("--sweep/--no-sweep", default=True, show_default=True, help="Sweep sxy and srgb.")
@click.option(
    "--colour/--no-colour", default=True, show_default=True, help="Colour photographs too."
)
@click.option("--torch", is_flag=True, help="The torch backend too.")
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
    """Compare the dense CRF with pydensecrf and exact mean field; without --run on drawn maps."""
    from ensemble.pipeline.bench.crf import as_text, bench_crf
    from ensemble.pipeline.bench.crf_cases import cases_of_run, colour_cases, drawn_cases

    if run_path is None:
        cases = drawn_cases(pictures)
    else:
        cases = cases_of_run(Run(run_path), member, split, pictures)
    photographs = colour_cases(pictures) if colour else None
    document = bench_crf(cases, rounds, colour=photographs, sweep=sweep, torch=torch, tell=tell)
    show(as_text(document), document, as_json=as_json)
