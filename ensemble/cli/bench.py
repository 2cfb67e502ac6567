"""`ens bench`: compare chains of post-processing on this machine, side by side."""

from pathlib import Path

import click

from ensemble.cli.completion import complete_source
from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    memory_option,
    print_result,
    resolve_run,
    rounds_option,
    run_option,
)


@click.group("bench")
def command() -> None:
    """Measure score, speed and memory on this machine, in alternating rounds."""


@command.command("postproc", short_help="Chains against the plain argmax.")
@run_option
@click.option(
    "--fusion",
    shell_complete=complete_source,
    metavar="N",
    help="Fusion or member; by default the fusion with the highest out-of-fold score.",
)
@click.option(
    "--chains",
    type=FILE,
    help="A file, one CHAIN or NAME: CHAIN per line; by default common chains.",
)
@click.option("--split", default="validation", show_default=True, help="Split to evaluate on.")
@rounds_option(7)
@memory_option
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
    from ensemble.pipeline.bench.comparison import BenchConfig, bench_postproc, format_bench

    config = BenchConfig(fusion, chains, split, rounds)
    report = bench_postproc(resolve_run(run_path), config, log)
    print_result(format_bench(report), report.to_dict(), as_json=as_json)
