"""`ens tune-postproc`: search for a chain, and estimate how much of its gain is luck."""

import shlex
from pathlib import Path

import click

from ensemble.cli.completion import complete_source
from ensemble.cli.options import (
    FILE,
    SEED,
    SpecCommand,
    distinct,
    json_option,
    log,
    memory_option,
    print_result,
    refuse_given,
    resolve_run,
    run_option,
    workers_options,
)
from evaluation.core.errors import format_count

SEARCH_OPTIONS = ("trials", "seed", "space", "name")


@click.command("tune-postproc", cls=SpecCommand, tables={"steps": "postproc.steps:STEPS"})
@click.option(
    "--fusion",
    required=True,
    metavar="N",
    help="Fusion or member to tune for.",
    shell_complete=complete_source,
)
@run_option
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=60,
    show_default=True,
    help="Number of chains tried per search: one search on all images, one without each fold.",
)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Random seed.")
@click.option(
    "--space", type=FILE, help="YAML of steps and their options' values; see docs/crf.md."
)
@click.option("--name", metavar="T", help="Name of the result; by default the fusion's.")
@click.option(
    "--grid",
    "axes",
    multiple=True,
    metavar="STEP.OPTION=A,B,...",
    help="Twice, with --out: no search, but a figure of the labels over two options.",
)
@click.option("--chain", default="", metavar="SPEC", help="With --grid: the rest of the chain.")
@click.option(
    "--image",
    "images",
    multiple=True,
    callback=distinct,
    metavar="ID",
    help="With --grid: draw this image; repeatable.",
)
@click.option("--out", type=FILE, help="With --grid: the file of the figure, .png.")
@workers_options
@memory_option
@json_option
def command(
    fusion: str,
    run_path: Path | None,
    trials: int,
    seed: int,
    space: Path | None,
    name: str | None,
    axes: tuple[str, ...],
    chain: str,
    images: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Search steps, their order and options, and evaluate the search on images it did not see.

    A step stays in the chain if the interval of its gain lies above 0 and no class loses. Trials
    are kept in the run: the same command resumes, and a larger --trials adds to them.
    """
    run = resolve_run(run_path)
    if axes or out or chain or images:
        if len(axes) != 2 or out is None:
            raise click.UsageError("--chain, --image and --out go with --grid, given twice")
        refuse_given("is of a search, --grid of a drawing; give one", *SEARCH_OPTIONS)
        from ensemble.pipeline.tuning.grid import draw_grid

        drawn = draw_grid(run, fusion, axes, chain=chain, images=images, out=out)
        ids = ", ".join(drawn.images)
        text = f"{out}: {format_count(drawn.cells, 'chain')} on {ids}"
        print_result(text, drawn.to_dict(), as_json=as_json)
        return
    from ensemble.pipeline.tuning.results import format_tuning
    from ensemble.pipeline.tuning.tuning import TuningBudget, tune

    result = tune(run, fusion, TuningBudget(trials, seed, space), name=name, log=log)
    to_run = f"ens postprocess --run {run.path} --fusion {fusion} --chain "
    then = to_run + shlex.quote(result.chain) if result.chain else None
    print_result(format_tuning(result), result.to_dict(), as_json=as_json, then=then)
