"""Options that several verbs share, and how verbs speak."""

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from evaluation.core.run_folder import Run, newest_run

if TYPE_CHECKING:
    from evaluation.leaderboard import Leaderboard

Verb = TypeVar("Verb", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)


def run_option(verb: Verb) -> Verb:
    """Add `--run`."""
    text = "Experiment folder; by default the newest under runs/."
    return click.option("--run", "run_path", type=FILE, metavar="RUN", help=text)(verb)


def json_option(verb: Verb) -> Verb:
    """Add `--json`."""
    text = "Print one JSON document instead of text."
    return click.option("--json", "as_json", is_flag=True, help=text)(verb)


def device_options(verb: Verb) -> Verb:
    """Add `--device` and `--workers`."""
    device = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:K."
    )
    text = "Processes per device; by default one per CPU core, four per GPU."
    return device(click.option("--workers", type=click.IntRange(1), help=text)(verb))


CLUSTER = click.option(
    "--cluster", metavar="ADDRESS", help="Work on this Dask cluster; see docs/cluster.md."
)


def rounds_option(default: int) -> Callable[[Verb], Verb]:
    """Add `--rounds`."""
    text = "How often each side is measured."
    return click.option(
        "--rounds", type=click.IntRange(1), default=default, show_default=True, help=text
    )


def workers_options(verb: Verb) -> Verb:
    """Add `--cluster` and `--workers`, and do the work on blocks of images where they say."""

    @functools.wraps(verb)
    def there(*args: Any, cluster: str | None, workers: int | None, **options: Any) -> Any:
        with _working_on(cluster, workers):
            return verb(*args, **options)

    text = "Worker processes; by default threads in this process."
    return CLUSTER(click.option("--workers", type=click.IntRange(1), help=text)(there))  # type: ignore[return-value]


def jobs_options(verb: Verb) -> Verb:
    """Add `--device`, `--workers` and `--cluster`, and run jobs on the cluster that is named."""

    @functools.wraps(verb)
    def there(
        *args: Any, cluster: str | None, device: str, workers: int | None, **options: Any
    ) -> Any:
        if cluster and device != "auto":
            raise click.UsageError("--device is of this machine; workers of --cluster have theirs")
        with _working_on(cluster, workers) if cluster else contextlib.nullcontext():
            return verb(*args, device=device, workers=workers, **options)

    return CLUSTER(device_options(there))  # type: ignore[return-value]


@contextlib.contextmanager
def _working_on(cluster: str | None, workers: int | None) -> Iterator[None]:
    if cluster and workers:
        raise click.UsageError("--workers starts processes here, --cluster has its own; give one")
    if not cluster and not workers:
        yield
        return
    from evaluation.core.cluster import on_cluster

    with on_cluster(cluster, workers or 1) as found:
        if not found.width:
            log(f"{cluster} has no workers yet; waiting for them")
        yield


def ignore_option(verb: Verb) -> Verb:
    """Add `--ignore`."""
    text = "With files: the class that is not scored; a run knows its own."
    option = click.option(
        "--ignore", type=click.IntRange(0, 255), default=0, show_default=True, help=text
    )
    return option(verb)


def resolve_run(path: Path | None) -> Run:
    """Return the run that was named, or the newest."""
    return Run(path) if path is not None else newest_run()


def refuse_given(why: str, *names: str) -> None:
    """Refuse options of the command that runs, where they were written and not left to a default.

    Args:
        why: follows the option.
        names: of their parameters.

    Raises:
        UsageError: one was given.
    """
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if option.name in names and given:
            raise click.UsageError(f"{option.opts[0]} {why}")


def refuse_with_files(files: str, *names: str) -> None:
    """Refuse options of a run beside those of files.

    Args:
        files: the option that says that files are meant.
        names: of the parameters of a run.

    Raises:
        UsageError: one was given.
    """
    refuse_given(f"is of a run, {files} of files; give one of them", *names)


def refuse_in_run(files: str, *names: str) -> None:
    """Refuse options of files where a run is meant, which has its own.

    Args:
        files: the option that says that files are meant.
        names: of the parameters of files.

    Raises:
        UsageError: one was given.
    """
    refuse_given(f"goes with {files}; a run has its own", *names)


def next_command(run: Run, board: "Leaderboard") -> str:
    """Return the command that hands over what was chosen, or that brings images for it."""
    if "test" not in run.splits():
        return f"ens predict --run {run.path} --data MORE.npz --split test"
    chosen = board.chosen or board.rows[0].name
    return f"ens submit --run {run.path} --candidate {chosen} --split test --out F.csv"


def log(line: str) -> None:
    """Write a line of progress to stderr, above the bar where one is shown."""
    # Not click.echo, which goes past the bar's own sys.stderr and into the middle of the bar.
    sys.stderr.write(f"{line}\n")


def print_result(text: str, document: Any, *, as_json: bool, then: str | None = None) -> None:
    """Print a result, as text with the next useful command, or as JSON alone."""
    if as_json:
        click.echo(json.dumps(document, indent=1, allow_nan=False))
        return
    click.echo(text)
    if then:
        click.echo(f"next: {then}")
