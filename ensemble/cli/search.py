"""`ens search`: Optuna over the options of a member's recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli.options import (
    FILE,
    jobs_options,
    json_option,
    log,
    print_result,
    search_data_options,
)
from evaluation.core.run_folder import RUNS, Run

if TYPE_CHECKING:
    from ensemble.pipeline.search.study import SamplerName


@click.command("search")
@click.argument("space", type=FILE, metavar="SPACE.yaml")
@search_data_options
@click.option(
    "--run", "run_path", type=FILE, metavar="RUN", help="Run folder; by default runs/SPACE."
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Number of trials in all, those of earlier calls included.",
)
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "gp", "random", "grid"]),
    default="tpe",
    show_default=True,
    help="Method that proposes trials; gp is a Gaussian process.",
)
@click.option(
    "--folds-used",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    metavar="N",
    help="Number of folds that each trial is trained in.",
)
@click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Start no trial after this time."
)
@jobs_options
@json_option
def command(
    space: Path,
    run_path: Path | None,
    trials: int,
    sampler: "SamplerName",
    folds_used: int,
    timeout: float | None,
    device: str,
    workers: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search the options of a recipe for the highest score on held-out images, by the run's metric.

    SPACE.yaml holds a `recipe` and a `space`, which gives options such as architecture.width a list
    of choices or a range; see docs/recipe-search.md. Trials below the median are stopped early. The
    same command resumes an interrupted one.
    """
    from ensemble.pipeline.search.held_out import searched_experiment
    from ensemble.pipeline.search.recipe_search import SearchBudget, format_search, search
    from ensemble.pipeline.search.space import read_space

    run = Run(run_path or RUNS / space.stem)
    experiment = searched_experiment(run, **options)
    budget = SearchBudget(
        trials=trials,
        sampler=sampler,
        folds_used=folds_used,
        timeout_seconds=timeout,
        device=device,
        workers=workers,
    )
    result = search(run, experiment, read_space(space, experiment.defaults), budget, log=log)
    only = " --only best" if experiment.members else ""
    then = f"ens train-members --experiment {result.experiment} --run {run.path}{only}"
    print_result(format_search(result), result.to_dict(), as_json=as_json, then=then)
