"""The options by which a measurement takes pictures and maps: those of a run, or drawn ones."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import FILE, Verb
from evaluation.ground.layout import Run


def cases_options(pictures: int) -> Callable[[Verb], Verb]:
    """Add `--run`, `--fusion`, `--split` and `--pictures`, and give the verb `cases`.

    Args:
        pictures: how many by default.
    """
    options = [
        click.option(
            "--run", "run_path", type=FILE, metavar="RUN", help="Take maps from this run."
        ),
        click.option(
            "--fusion", metavar="N", help="Fusion or member; by default the first member."
        ),
        click.option("--split", default="validation", show_default=True, help="Of which pictures."),
        click.option(
            "--pictures",
            type=click.IntRange(1),
            default=pictures,
            show_default=True,
            help="How many pictures.",
        ),
    ]

    def add(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def there(
            *args: Any,
            run_path: Path | None,
            fusion: str | None,
            split: str,
            pictures: int,
            **others: Any,
        ) -> Any:
            from ensemble.pipeline.bench.cases import cases_of_run, drawn_cases

            if run_path is None and fusion is not None:
                raise click.UsageError("--fusion is of a run; give --run too")
            if run_path is None:
                cases = drawn_cases(pictures)
            else:
                cases = cases_of_run(Run(run_path), fusion, split, pictures)
            return verb(*args, cases=cases, **others)

        return functools.reduce(lambda f, option: option(f), reversed(options), there)  # type: ignore[return-value]

    return add
