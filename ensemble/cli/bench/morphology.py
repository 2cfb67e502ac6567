"""`ens bench morphology`: steps on regions and windows beside what libraries do for the same."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, json_option, rounds_option, show, tell
from ensemble.pipeline.bench.morphology import PARTS
from evaluation.ground.layout import Run

PART = "Only this part; repeatable."


@click.command("morphology", short_help="Steps against other libraries.")
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help=PART)
@click.option("--run", "run_path", type=FILE, metavar="RUN", help="Take maps from this run.")
@click.option("--member", metavar="NAME", help="Member or fusion; by default the first member.")
@click.option("--split", default="validation", show_default=True, help="Of which pictures.")
@click.option(
    "--pictures", type=click.IntRange(1), default=200, show_default=True, help="How many pictures."
)
@rounds_option(3)
@json_option
def morphology(
    parts: tuple[str, ...],
    run_path: Path | None,
    member: str | None,
    split: str,
    pictures: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Compare steps with scikit-image, scipy, OpenCV and MONAI; without --run on drawn maps."""
    from ensemble.pipeline.bench.crf_cases import cases_of_run, drawn_cases
    from ensemble.pipeline.bench.morphology.measured import as_text, bench_morphology

    if run_path is None:
        cases = drawn_cases(pictures)
    else:
        cases = cases_of_run(Run(run_path), member, split, pictures)
    asked = list(dict.fromkeys(parts)) or list(PARTS)
    document = bench_morphology(cases, asked, rounds, tell)
    show(as_text(document), document, as_json=as_json)
