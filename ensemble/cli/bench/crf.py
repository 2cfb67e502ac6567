"""`ens bench crf`: the dense CRF beside pydensecrf and the exact field."""

from typing import TYPE_CHECKING

import click

from ensemble.cli.bench.cases import cases_options
from ensemble.cli.options import json_option, rounds_option, show, tell

if TYPE_CHECKING:
    from ensemble.pipeline.bench.cases import Cases


@click.command("crf", short_help="The dense CRF against pydensecrf and exact.")
@cases_options(pictures=24)
@rounds_option(7)
@click.option("--sweep/--no-sweep", default=True, show_default=True, help="Sweep sxy and srgb.")
@click.option(
    "--colour/--no-colour", default=True, show_default=True, help="Colour photographs too."
)
@click.option("--torch", is_flag=True, help="The torch backend too.")
@json_option
def crf(cases: "Cases", rounds: int, sweep: bool, colour: bool, torch: bool, as_json: bool) -> None:
    """Compare the dense CRF with pydensecrf and exact mean field; without --run on drawn maps."""
    from ensemble.pipeline.bench.cases import colour_cases
    from ensemble.pipeline.bench.crf import as_text, bench_crf

    photographs = colour_cases(len(cases.ids)) if colour else None
    document = bench_crf(cases, rounds, colour=photographs, sweep=sweep, torch=torch, tell=tell)
    show(as_text(document), document, as_json=as_json)
