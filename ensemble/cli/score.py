"""`ens score`: score candidates of a run, or label maps in plain files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ensemble.cli.completion import complete_candidate, complete_spec
from ensemble.cli.options import (
    FILE,
    SpecCommand,
    distinct,
    json_option,
    label_options,
    log,
    memory_option,
    next_command,
    options_of_source,
    print_leaderboard,
    print_result,
    refuse_given,
    resolve_run,
    run_option,
    table_options,
    workers_options,
)
from evaluation.leaderboard_text import format_scores

if TYPE_CHECKING:
    from evaluation.core.label_options import LabelOptions
    from evaluation.leaderboard_text import TableView

Per = Literal["set", "group", "image"]

RUN_OPTIONS = ("run_path", "candidates", "split")
FILE_OPTIONS = ("target", "pred", "maps", "logits", "csv", "labels")
AUDIT = "ens audit --target TARGET --pred A --pred B"


@click.command(
    "score",
    cls=SpecCommand,
    tables={
        "protocols": "evaluation.protocols:ALL_PROTOCOLS",
        "metrics": "evaluation.metrics:METRICS",
    },
)
@click.option(
    "--candidate",
    "candidates",
    shell_complete=complete_candidate,
    multiple=True,
    callback=distinct,
    metavar="C",
    help="Candidate to score; repeatable, by default all.",
)
@click.option("--split", default="validation", show_default=True, help="Split to evaluate on.")
@click.option(
    "--protocol",
    shell_complete=complete_spec("evaluation.protocols:ALL_PROTOCOLS"),
    metavar="SPEC",
    help="Definition of the score that ranks, by default the run's metric; with files all.",
)
@click.option(
    "--metric",
    "metrics",
    shell_complete=complete_spec("evaluation.metrics:METRICS"),
    multiple=True,
    callback=distinct,
    metavar="SPEC",
    help="Measure this instead of mIoU; repeatable, or all.",
)
@click.option(
    "--per",
    type=click.Choice(["set", "group", "image"]),
    default="set",
    show_default=True,
    help="With --metric: values of the whole set, per group or per image. Without: group scores"
    " each group (case, drive) as one image, as nnU-Net does.",
)
@run_option
@click.option("--target", type=FILE, help="With files: target label maps, a file or a folder.")
@click.option("--pred", type=FILE, help="With files: predicted label maps, a file or a folder.")
@click.option(
    "--maps",
    type=FILE,
    help="With files: probability maps of the predictions, for metrics that need them.",
)
@click.option("--csv", type=FILE, metavar="F", help="With files: write the table of all classes.")
@click.option("--logits", is_flag=True, help="With --maps: they are logits; take the softmax.")
@label_options
@workers_options
@memory_option
@table_options
@json_option
def command(
    protocol: str | None,
    metrics: tuple[str, ...],
    per: Per,
    as_json: bool,
    view: "TableView",
    **options: Any,
) -> None:
    """Score candidates, and compare them. Unlabelled pixels and an ignored class are not scored.

    The score is the run's metric, by default mIoU: intersection over union of prediction and
    target, averaged over classes. Of two classes with a declared foreground it is its IoU.

    A candidate is a member or fusion with a chain of post-processing steps. Candidates are chosen
    on the out-of-fold images (predicted by the fold model that did not train on them) and
    evaluated on --split; each gain over the highest single member comes with its paired interval.
    --metric measures other quantities instead, per class.
    """
    if metrics and protocol:
        raise click.UsageError("--protocol ranks, --metric measures something else; give one")
    if options["maps"] and not metrics:
        raise click.UsageError("--maps are for metrics of probabilities; give --metric with them")
    if options["logits"] and not options["maps"]:
        raise click.UsageError("--logits goes with --maps; logits become labels by ens postprocess")
    if metrics:
        refuse_given("is of mIoU and the like; --metric has --json", "csv")
    from_files = bool(options["target"] or options["pred"] or options["maps"])
    if not metrics and (per == "image" or from_files):
        refuse_given("goes with --metric; --per group with a run too", "per")
    if from_files and not (options["target"] and options["pred"]):
        raise click.UsageError("--target and --pred belong together; give both")
    if from_files or metrics:
        refuse_given("is of a run's leaderboard", "columns", "wide", "explain")
    source = options_of_source(
        options,
        from_files=from_files,
        file_option="--target",
        file_options=FILE_OPTIONS,
        run_options=RUN_OPTIONS,
    )
    if metrics:
        source.pop("csv", None)
        _print_metrics(metrics, per, as_json, from_files=from_files, **source)
    elif from_files:
        del source["maps"], source["logits"]
        _score_files(protocol, as_json, **source)
    else:
        _score_run(protocol, as_json, view, per_group=per == "group", **source)


def _score_files(
    protocol: str | None,
    as_json: bool,
    *,
    target: Path,
    pred: Path,
    csv: Path | None,
    labels: "LabelOptions",
) -> None:
    from ensemble.cli.plain_files import score_files
    from evaluation.scores import write_class_table

    document = score_files(target, pred, protocol=protocol, labels=labels)
    rest = "--csv FILE writes all"
    if csv is not None:
        write_class_table(csv, document)
        rest = f"all: {csv}"
    if "warning" in document:
        log(f"warning: {document['warning']}")
    print_result(format_scores(document, rest=rest), document, as_json=as_json, then=AUDIT)


def _score_run(
    protocol: str | None,
    as_json: bool,
    view: "TableView",
    *,
    run_path: Path | None,
    candidates: tuple[str, ...],
    split: str,
    per_group: bool,
) -> None:
    from ensemble.pipeline.scoring.score import score_run

    run = resolve_run(run_path)
    board = score_run(run, candidates, split=split, protocol=protocol, per_group=per_group, log=log)
    print_leaderboard(board, as_json=as_json, then=next_command(run, board), view=view)


def _print_metrics(
    metrics: tuple[str, ...], per: Per, as_json: bool, *, from_files: bool, **source: Any
) -> None:
    from ensemble.pipeline.scoring.metrics import format_metrics, measure_files, measure_run

    if from_files:
        document = measure_files(wanted=metrics, per=per, **source)
    else:
        run = resolve_run(source["run_path"])
        candidates, split = source["candidates"], source["split"]
        document = measure_run(run, candidates, metrics, split=split, per=per, log=log)
    print_result(format_metrics(document), document, as_json=as_json)
