"""`ens bench morphology`: steps on regions and windows beside what libraries do for the same."""

from typing import TYPE_CHECKING

import click

from benchmarks.inputs import cases_options
from benchmarks.morphology import PARTS
from ensemble.cli.options import (
    json_option,
    log,
    print_result,
    rounds_option,
)

if TYPE_CHECKING:
    from benchmarks.inputs import Cases

PART = "Only this part; repeatable."


@click.command("morphology", short_help="Steps against other libraries.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help=PART)
@cases_options(images=200)
@rounds_option(3)
@json_option
def morphology(cases: "Cases", parts: tuple[str, ...], rounds: int, as_json: bool) -> None:
    """Compare steps with scikit-image, scipy, OpenCV and MONAI; without --run on drawn maps."""
    from benchmarks.morphology.suite import as_text, bench_morphology

    asked = list(dict.fromkeys(parts)) or list(PARTS)
    document = bench_morphology(cases, asked, rounds, log)
    print_result(as_text(document), document, as_json=as_json)
