"""What the shell offers after <Tab>: runs, their members, fusions and candidates, names in specs.

Every function takes what click gives: context, parameter, and the word so far.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from pkgutil import resolve_name

import click
from click.shell_completion import CompletionItem

from evaluation.core.errors import EnsError
from evaluation.core.run_folder import RUNS, Run, newest_run

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_run(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the folders under `runs/`, else any path."""
    if not RUNS.is_dir() or not str(RUNS).startswith(incomplete[: len(str(RUNS))]):
        return [CompletionItem(incomplete, type="dir")]
    return _starting((str(path) for path in RUNS.iterdir() if path.is_dir()), incomplete)


def complete_candidate(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the run's candidates."""
    return _starting(_of_run(context, Run.candidates), incomplete)


def complete_source(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the run's fusions and members."""
    return _starting(_of_run(context, lambda run: [*run.fusions(), *run.members()]), incomplete)


def complete_spec(table: str) -> Complete:
    """Return what offers the names of a table; in a chain, after its last `|`.

    Args:
        table: `module:attribute`, imported on <Tab>.
    """

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, bar, last = incomplete.rpartition("|")
        return [
            CompletionItem(before + bar + name)
            for name in sorted(resolve_name(table))
            if name.startswith(last)
        ]

    return complete


def _of_run(context: click.Context, names: Callable[[Run], Iterable[str]]) -> Iterable[str]:
    path: Path | None = context.params.get("run_path")
    try:
        return names(Run(path) if path is not None else newest_run())
    except (EnsError, OSError):
        return []


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
