"""Options that several commands share, and how commands print."""

import contextlib
import functools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ensemble.cli.completion import complete_run
from evaluation.core.errors import BadSpec, check_distinct

if TYPE_CHECKING:
    from evaluation.core.label_options import LabelOptions
    from evaluation.core.run_folder import Run
    from evaluation.leaderboard import Leaderboard
    from evaluation.leaderboard_text import TableView

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**64 - 1)
"""As `evaluation.core.seeds` takes them; not imported, so that help is fast."""

OLD_NAMES = {
    "truth": "target",
    "fit-truth": "fit-target",
    "guess": "pred",
    "picture": "image",
    "pictures": "images",
    "form": "format",
    "as-is": "no-checks",
}
"""Former names of options and of their values. They are still accepted, and not shown in help."""


def current_name(name: str) -> str:
    """Return today's name of an option or value."""
    return OLD_NAMES.get(name, name)


class SpecCommand(click.Command):
    """A command whose help lists the names that its specs may use.

    Args:
        tables: heading -> lazy reference `module:attribute` of a table of factories.
    """

    def __init__(self, *args: Any, tables: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._tables = tables

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the names, those of plugins included; tables are imported only for this."""
        with formatter.section("Names in a spec, NAME or 'NAME(option=value)'"):
            formatter.write_dl(
                [
                    (heading, ", ".join(sorted(resolve_name(reference))))
                    for heading, reference in self._tables.items()
                ]
            )
            formatter.write_text("")
            formatter.write_text("An unknown name or option is refused with the known ones.")


def distinct(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the values of a repeatable option; none may be given twice, alone or in a list.

    Raises:
        BadSpec: one that is repeated.
    """
    check_distinct(parameter.opts[0], values)
    return values


def run_option(command: CommandFunction) -> CommandFunction:
    """Add `--run`."""
    text = "Run folder; by default the newest under runs/."
    return click.option(
        "--run", "run_path", type=FILE, metavar="RUN", help=text, shell_complete=complete_run
    )(command)


def json_option(command: CommandFunction) -> CommandFunction:
    """Add `--json`."""
    text = "Print one JSON document instead of text."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def device_options(command: CommandFunction) -> CommandFunction:
    """Add `--device` and `--workers`."""
    device = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:K."
    )
    text = "Jobs at a time per device; by default one per CPU core, four per GPU."
    return device(click.option("--workers", type=click.IntRange(1), help=text)(command))


CLUSTER = click.option(
    "--cluster", metavar="ADDRESS", help="Work on this Dask cluster; see docs/cluster.md."
)


def rounds_option(default: int) -> Callable[[CommandFunction], CommandFunction]:
    """Add `--rounds`."""
    text = "Number of measurements of each side."
    return click.option(
        "--rounds", type=click.IntRange(1), default=default, show_default=True, help=text
    )


def workers_options(command: CommandFunction) -> CommandFunction:
    """Add `--cluster` and `--workers`, and work on blocks of images there."""

    @functools.wraps(command)
    def on_workers(*args: Any, cluster: str | None, workers: int | None, **options: Any) -> Any:
        with _workers(cluster, workers):
            return command(*args, **options)

    text = "Worker processes; by default threads in this process."
    return CLUSTER(click.option("--workers", type=click.IntRange(1), help=text)(on_workers))  # type: ignore[return-value]


def memory_option(command: CommandFunction) -> CommandFunction:
    """Add `--memory`, which limits the blocks of images that the command works on together."""

    @functools.wraps(command)
    def within_limit(*args: Any, memory: str | None, **options: Any) -> Any:
        from evaluation.core.memory import memory_limit, parse_size

        try:
            limit = None if memory is None else parse_size(memory)
        except BadSpec as error:
            raise BadSpec(f"--memory: {error}") from None
        with memory_limit(limit):
            return command(*args, **options)

    text = (
        "For the blocks of images in progress, such as 2GB; by default a quarter of what is free."
    )
    return click.option("--memory", metavar="SIZE", help=text)(within_limit)  # type: ignore[return-value]


def jobs_options(command: CommandFunction) -> CommandFunction:
    """Add `--device`, `--workers` and `--cluster`, and run training jobs on the named cluster."""

    @functools.wraps(command)
    def on_cluster(
        *args: Any, cluster: str | None, device: str, workers: int | None, **options: Any
    ) -> Any:
        if cluster and device != "auto":
            raise click.UsageError("--device is of this machine; workers of --cluster have theirs")
        with _workers(cluster, workers) if cluster else contextlib.nullcontext():
            return command(*args, device=device, workers=workers, **options)

    return CLUSTER(device_options(on_cluster))  # type: ignore[return-value]


@contextlib.contextmanager
def _workers(cluster: str | None, workers: int | None) -> Iterator[None]:
    if cluster and workers:
        raise click.UsageError("--workers starts processes here, --cluster has its own; give one")
    if not cluster and not workers:
        yield
        return
    from evaluation.core.cluster import on_cluster

    with on_cluster(cluster, workers or 1) as connected:
        if not connected.width:
            log(f"{cluster} has no workers yet; waiting for them")
        yield


LABEL_OPTIONS = ("classes", "ignore", "unlabelled", "foreground", "colours")
"""Parameters of the options that `label_options` adds."""


def label_options(command: CommandFunction) -> CommandFunction:
    """Add the options about classes and values of masks; the command gets `labels`."""

    @functools.wraps(command)
    def with_labels(*args: Any, **options: Any) -> Any:
        labels = _read_labels(**{name: options.pop(name) for name in LABEL_OPTIONS})
        return command(*args, labels=labels, **options)

    value = click.IntRange(0, 255)
    for option in (
        click.option("--colours", type=FILE, help="Table of class names and colours."),
        click.option(
            "--foreground",
            type=value,
            metavar="VALUE",
            help="Value of the foreground in masks of two values, such as 255.",
        ),
        click.option(
            "--unlabelled",
            type=value,
            metavar="VALUE",
            help="Value in masks of pixels without a label, besides 255.",
        ),
        click.option(
            "--ignore",
            metavar="CLASS",
            help="Class that is labelled but not scored: its name or index, or none.",
        ),
        click.option(
            "--classes",
            metavar="CLASSES",
            help="Number of classes, their names (A,B,...), or a file of names.",
        ),
    ):
        with_labels = option(with_labels)
    return with_labels  # type: ignore[return-value]


def _read_labels(
    *,
    classes: str | None,
    ignore: str | None,
    unlabelled: int | None,
    foreground: int | None,
    colours: Path | None,
) -> "LabelOptions":
    from evaluation.core.label_options import LabelOptions, parse_classes, read_colours

    labels = LabelOptions() if classes is None else parse_classes(classes)
    if colours is not None:
        names, table = read_colours(colours)
        if labels.names not in (None, len(names), names):
            raise click.UsageError(f"--classes and {colours} name different classes")
        labels = labels.updated(LabelOptions(names, colours=table))
    index = int(ignore) if ignore is not None and ignore.isdecimal() else ignore
    given = LabelOptions(ignore=index, unlabelled=unlabelled, foreground=foreground)
    return labels.updated(given)


LAYOUT_OPTIONS = ("layout", "images", "masks", "ids", "group_by", "overlap", "uncovered")
"""Parameters of the options that `layout_options` adds."""


def layout_options(command: CommandFunction) -> CommandFunction:
    """Add the options about how a data set lies on disk; the command gets `layout`."""

    @functools.wraps(command)
    def with_layout(*args: Any, **options: Any) -> Any:
        from members.data.layouts import LayoutOptions

        given = {name: options.pop(name) for name in LAYOUT_OPTIONS}
        return command(*args, layout=LayoutOptions(**given), **options)

    for option in (
        click.option(
            "--uncovered",
            type=click.Choice(["background", "unlabelled"]),
            help="COCO: what pixels without an object are.",
        ),
        click.option(
            "--overlap",
            type=click.Choice(["refuse", "smallest", "last"]),
            help="COCO: which of overlapping objects of several classes wins; by default refuse.",
        ),
        click.option(
            "--group-by",
            metavar="REGEX",
            help="Group of an image: what the parentheses match in its name, or FILE.csv:COLUMN.",
        ),
        click.option(
            "--ids", metavar="IDS.txt", help="Read these images alone: an id or path per line."
        ),
        click.option("--masks", metavar="GLOB", help="Masks, such as 'out/{id}_gt.png'."),
        click.option(
            "--images", metavar="GLOB", help="Images below the folder, such as 'scans/{id}.tif'."
        ),
        click.option(
            "--layout", metavar="NAME", help="Look for this layout alone; see docs/data.md."
        ),
    ):
        with_layout = option(with_layout)
    return with_layout  # type: ignore[return-value]


SEARCH_DATA_OPTIONS = (
    click.option(
        "--data", metavar="DATA", help="Training data; by default the run's, else the sample."
    ),
    click.option(
        "--validation",
        metavar="DATA",
        help="A labelled set that the run keeps for evaluation; the search does not use it.",
    ),
    click.option("--experiment", type=FILE, metavar="FILE", help="Take data and folds from here."),
    click.option(
        "--folds", type=click.IntRange(2, 100), metavar="K", help="Number of folds; by default 3."
    ),
    click.option(
        "--seed",
        type=SEED,
        metavar="S",
        help="Random seed; by default 0.",
    ),
)


def search_data_options(command: CommandFunction) -> CommandFunction:
    """Add the options that select the data of a search, and say what they are."""
    command = label_options(layout_options(command))
    for option in reversed(SEARCH_DATA_OPTIONS):
        command = option(command)
    return command


def resolve_run(path: Path | None) -> "Run":
    """Return the run that was named, or the newest."""
    from evaluation.core.run_folder import Run, newest_run

    return Run(path) if path is not None else newest_run()


def options_of_source(
    options: Mapping[str, Any],
    *,
    from_files: bool,
    file_option: str,
    file_options: Sequence[str],
    run_options: Sequence[str],
) -> dict[str, Any]:
    """Return the options of plain files or those of a run, and refuse the other ones.

    Args:
        options: all of the command, by parameter.
        from_files: whether the command works on plain files instead of a run.
        file_option: the option that selects plain files, such as `--maps`.
        file_options: parameters that belong to plain files.
        run_options: parameters that belong to a run.

    Raises:
        UsageError: an option of the other source was given.
    """
    if from_files:
        of_run = [name for name in run_options if name not in file_options]
        refuse_given(f"is of a run, {file_option} of files; give one of them", *of_run)
        return {name: options[name] for name in file_options}
    of_files = [name for name in file_options if name not in run_options]
    given = [*of_files, *(LABEL_OPTIONS if "labels" in file_options else ())]
    refuse_given(f"goes with {file_option}; a run has its own", *given)
    return {name: options[name] for name in run_options}


def given_options(*names: str) -> str:
    """Return options of the running command as they were given, to repeat them in another.

    Args:
        names: of their parameters.
    """
    context = click.get_current_context()
    words = [
        word
        for option in context.command.params
        if option.name in names
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
        for word in (option.opts[0], str(context.params[option.name]))
    ]
    return f" {shlex.join(words)}" if words else ""


def refuse_given(reason: str, *names: str) -> None:
    """Refuse options of the running command that were given on the command line.

    Args:
        reason: follows the option's name.
        names: of their parameters.

    Raises:
        UsageError: one was given.
    """
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if option.name in names and given:
            raise click.UsageError(f"{option.opts[0]} {reason}")


def next_command(run: "Run", board: "Leaderboard") -> str:
    """Return the command that exports the chosen candidate, or that adds images for it."""
    if "test" not in run.splits():
        return f"ens predict --run {run.path} --data MORE.npz --split test"
    chosen = board.chosen or board.rows[0].name
    return f"ens submit --run {run.path} --candidate {chosen} --split test --out F.csv"


def log(line: str) -> None:
    """Write a line of progress to stderr, above the bar where one is shown."""
    # Not click.echo: it bypasses the bar's own sys.stderr and would write into the bar.
    sys.stderr.write(f"{line}\n")


def print_result(text: str, document: Any, *, as_json: bool, then: str | None = None) -> None:
    """Print a result, as text with the next useful command, or as JSON alone."""
    if as_json:
        click.echo(json.dumps(document, indent=1, allow_nan=False))
        return
    click.echo(text)
    if then:
        click.echo(f"next: {then}")


def table_options(command: CommandFunction) -> CommandFunction:
    """Add `--columns`, `--wide` and `--explain` as the keyword `view`, a `TableView`."""
    options = [
        click.option(
            "--columns",
            metavar="NAMES",
            help="Columns of the table, with commas between; classes for all, or their names.",
        ),
        click.option(
            "--wide", is_flag=True, help="All columns, however wide the terminal; as in a pipe."
        ),
        click.option("--explain", is_flag=True, help="Say what the columns and intervals mean."),
    ]

    @functools.wraps(command)
    def with_view(*args: Any, columns: str | None, wide: bool, explain: bool, **others: Any) -> Any:
        return command(*args, view=_table_view(columns, wide, explain), **others)

    return functools.reduce(lambda f, option: option(f), reversed(options), with_view)  # type: ignore[return-value]


def _table_view(
    columns: str | None = None, wide: bool = False, explain: bool = False
) -> "TableView":
    from evaluation.leaderboard_text import TableView

    names = tuple(name.strip() for name in columns.split(",")) if columns else ()
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal and not wide else None
    return TableView(width, names, explain, colour=is_terminal and "NO_COLOR" not in os.environ)


def print_leaderboard(
    board: "Leaderboard",
    *,
    as_json: bool,
    then: str | None = None,
    more: str = "",
    view: "TableView | None" = None,
) -> None:
    """Print a leaderboard as text, as wide as the terminal by default, or JSON."""
    from evaluation.leaderboard_text import format_leaderboard

    text = format_leaderboard(board, view or _table_view()) + (f"\n{more}" if more else "")
    print_result(text, board.to_dict(), as_json=as_json, then=then)
