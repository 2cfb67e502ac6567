"""`ens bench postproc`: chains of post-processing on the same fusion, side by side."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, chosen_run, json_option, run_option, show, tell


@click.command("postproc")
@run_option
@click.option(
    "--fusion", metavar="N", help="Or a member; by default the fusion that is the highest on oof."
)
@click.option(
    "--chains",
    type=FILE,
    help="A file of chains, one a line, CHAIN or NAME: CHAIN; or a usual set.",
)
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@json_option
def postproc(
    run_path: Path | None,
    fusion: str | None,
    chains: Path | None,
    split: str,
    rounds: int,
    as_json: bool,
) -> None:
    """Compare chains with no post-processing: score, speed, memory, pixels fixed and broken."""
    from ensemble.pipeline.bench.postproc.comparison import Asked, bench_postproc
    from ensemble.pipeline.bench.postproc.text import as_text

    asked = Asked(fusion, chains, split, rounds)
    document = bench_postproc(chosen_run(run_path), asked, tell)
    show(as_text(document), document, as_json=as_json)
