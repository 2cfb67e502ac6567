"""`ens audit`: compare two candidates under every protocol, and decompose the gain."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    label_options,
    log,
    memory_option,
    options_of_source,
    print_result,
    resolve_run,
    run_option,
)

if TYPE_CHECKING:
    from evaluation.core.label_options import LabelOptions

RUN_OPTIONS = ("run_path", "split")
FILE_OPTIONS = ("target", "preds", "labels")


@click.command("audit")
@click.argument("candidates", nargs=-1, metavar="[A B]")
@click.option("--split", default="validation", show_default=True, help="Split to evaluate on.")
@run_option
@click.option("--target", type=FILE, help="With files: target label maps, a file or a folder.")
@click.option(
    "--pred",
    "preds",
    type=FILE,
    multiple=True,
    help="With files: predicted label maps; twice, of A and of B.",
)
@label_options
@memory_option
@json_option
def command(candidates: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Split the gain from A to B, under every protocol, into pixels and denominator.

    A and B are candidates of a run. A protocol is a definition of the score. "Pixels" is what the
    classes' IoUs gained; "denominator" is what averaging over fewer or other classes gained, which
    makes no pixel better. McNemar's test says whether the two have the same share of correct
    pixels, over groups of images.
    """
    from ensemble.api.results import format_audit

    from_files = bool(options["target"] or options["preds"])
    if from_files:
        complete = options["target"] and len(options["preds"]) == 2
        if not complete or candidates:
            raise click.UsageError("with files give --target, and --pred twice, and no candidates")
    elif len(candidates) != 2:
        raise click.UsageError(f"{len(candidates)} candidates; expected two: A and B")
    source = options_of_source(
        options,
        from_files=from_files,
        file_option="--target",
        file_options=FILE_OPTIONS,
        run_options=RUN_OPTIONS,
    )
    document = _audit_files(**source) if from_files else _audit_run(candidates, **source)
    print_result(format_audit(document), document, as_json=as_json)


def _audit_files(target: Path, preds: tuple[Path, Path], labels: "LabelOptions") -> dict[str, Any]:
    from ensemble.cli.plain_files import audit_files

    return audit_files(target, preds, labels=labels)


def _audit_run(candidates: tuple[str, ...], run_path: Path | None, split: str) -> dict[str, Any]:
    from ensemble.pipeline.scoring.audit import audit_run

    return audit_run(resolve_run(run_path), (candidates[0], candidates[1]), split=split, log=log)
