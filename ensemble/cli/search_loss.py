"""`ens search-loss`: cross-validate mixtures of losses."""

import shlex
from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    FILE,
    SpecCommand,
    jobs_options,
    json_option,
    log,
    print_result,
    search_data_options,
)
from evaluation.core.run_folder import RUNS, Run


@click.command("search-loss", cls=SpecCommand, tables={"losses": "members.losses:LOSSES"})
@click.option(
    "--mixture",
    "mixture_specs",
    multiple=True,
    metavar="LOSS",
    help="Such as '0.5*dice + 0.5*focal'; repeatable.",
)
@click.option(
    "--losses", metavar="A,B,...", help="Try all their mixtures with weights that sum to 1."
)
@click.option(
    "--step", type=float, default=0.25, show_default=True, help="Step between weights of --losses."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Stop a mixture whose first fold has a lower score.",
)
@click.option(
    "--member",
    default="unet(width=8)",
    show_default=True,
    metavar="MEMBER",
    help="SPEC or {recipe} to train; its loss is replaced.",
)
@search_data_options
@click.option(
    "--run",
    "run_path",
    type=FILE,
    metavar="RUN",
    default=RUNS / "search-loss",
    show_default=True,
    help="Run folder.",
)
@jobs_options
@json_option
def command(
    mixture_specs: tuple[str, ...],
    losses: str | None,
    step: float,
    threshold: float,
    member: str,
    run_path: Path,
    device: str,
    workers: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Cross-validate mixtures of losses by the run's metric on held-out images.

    Results are kept: the same command resumes an interrupted one, and more mixtures or another
    threshold train only what is missing.
    """
    from ensemble.pipeline.search.held_out import searched_experiment
    from ensemble.pipeline.search.loss_search import expand_mixtures, format_losses, search_losses
    from members.recipe import read_member

    run = Run(run_path)
    experiment = searched_experiment(run, **options)
    _, recipe = read_member(member, experiment.defaults)
    result = search_losses(
        run,
        experiment,
        recipe,
        expand_mixtures(mixture_specs, losses, step),
        threshold=threshold,
        device=device,
        workers=workers,
        log=log,
    )
    then = None
    if result.best_option is not None:
        only = " --only best" if experiment.members else ""
        option = shlex.quote(result.best_option)
        then = f"ens train-members --run {run.path} --member {option}{only}"
    print_result(format_losses(result), result.to_dict(), as_json=as_json, then=then)
