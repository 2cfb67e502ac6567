"""`ens bench`: how fast, measured side by side on this machine; one file a measurement.

`ens bench postproc`: chains of post-processing on the same fusion, side by side.
"""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    print_result,
    resolve_run,
    rounds_option,
    run_option,
)


@click.command("postproc", short_help="Chains against the plain argmax.")
@run_option
@click.option(
    "--fusion", metavar="N", help="Fusion or member; by default the fusion that is highest on oof."
)
@click.option(
    "--chains",
    type=FILE,
    help="A file, one CHAIN or NAME: CHAIN per line; by default a usual set.",
)
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@rounds_option(7)
@json_option
def postproc(
    run_path: Path | None,
    fusion: str | None,
    chains: Path | None,
    split: str,
    rounds: int,
    as_json: bool,
) -> None:
    """Compare chains with the plain argmax: score, speed, memory, pixels fixed and broken."""
    from ensemble.pipeline.bench.comparison import Asked, bench_postproc
    from ensemble.pipeline.bench.comparison_text import as_text

    asked = Asked(fusion, chains, split, rounds)
    document = bench_postproc(resolve_run(run_path), asked, log)
    print_result(as_text(document), document, as_json=as_json)


@click.group("bench")
def command() -> None:
    """Measure on this machine: ways to do the same job side by side, in turns."""


command.add_command(postproc)
