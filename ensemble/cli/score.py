"""`ens score`: score candidates of a run, or label maps in plain files."""

from pathlib import Path
from typing import Any, Literal

import click

from ensemble.cli.options import (
    FILE,
    ignore_option,
    json_option,
    log,
    next_command,
    print_result,
    refuse_given,
    refuse_in_run,
    refuse_with_files,
    resolve_run,
    run_option,
    workers_options,
)

Per = Literal["set", "group", "image"]

MASKED = "masked"
TOGETHER = "--target, --pred and --classes belong together; give all three"


@click.command("score")
@click.option(
    "--candidate", "candidates", multiple=True, metavar="C", help="Repeatable; by default all."
)
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@click.option(
    "--protocol",
    metavar="SPEC",
    help="Protocol that ranks, by default masked; with files by default all are printed.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="SPEC",
    help="Measure this instead; repeatable, or all.",
)
@click.option(
    "--per",
    type=click.Choice(["set", "group", "image"]),
    default="set",
    show_default=True,
    help="With --metric: values of the set, or of each group or image.",
)
@run_option
@click.option("--target", type=FILE, help="With files: true label maps, .npy or .npz.")
@click.option("--pred", type=FILE, help="With files: predicted label maps.")
@click.option(
    "--maps", type=FILE, help="With files: the maps behind them, for metrics of probabilities."
)
@click.option("--classes", type=click.IntRange(2, 255), help="With files: how many classes.")
@ignore_option
@workers_options
@json_option
def command(
    candidates: tuple[str, ...],
    split: str,
    protocol: str | None,
    metrics: tuple[str, ...],
    per: Per,
    run_path: Path | None,
    target: Path | None,
    pred: Path | None,
    maps: Path | None,
    classes: int | None,
    ignore: int,
    as_json: bool,
) -> None:
    """Score candidates with the ignored class masked, and compare them.

    Candidates are chosen on the out-of-fold images and examined on the split; each gain over the
    highest single member comes with its paired interval. --metric measures other quantities
    instead, per class.
    """
    then = None
    if metrics and protocol:
        raise click.UsageError("--protocol ranks, --metric measures something else; give one")
    if maps and not metrics:
        raise click.UsageError("--maps are for metrics of probabilities; give --metric with them")
    if not metrics:
        refuse_given("goes with --metric", "per")
    if target or pred or maps:
        if not (target and pred and classes):
            raise click.UsageError(TOGETHER)
        refuse_with_files("--target", "run_path", "candidates", "split")
        if metrics:
            from ensemble.pipeline.scoring.metrics import as_text, measure_files

            document = measure_files(
                target, pred, maps, metrics, classes=classes, ignore=ignore, per=per
            )
            text = as_text(document)
        else:
            text, document = _scored_files(target, pred, protocol, classes, ignore)
            then = "ens postprocess --maps MAPS.npy --chain suppress_background --out LABELS.npy"
    else:
        refuse_in_run("--target", "classes", "ignore")
        if metrics:
            from ensemble.pipeline.scoring.metrics import as_text, measure_run

            run = resolve_run(run_path)
            document = measure_run(run, candidates, metrics, split=split, per=per, log=log)
            text = as_text(document)
        else:
            text, document, then = _scored_run(run_path, candidates, split, protocol or MASKED)
    print_result(text, document, as_json=as_json, then=then)


def _scored_files(
    target: Path, pred: Path, protocol: str | None, classes: int, ignore: int
) -> tuple[str, dict[str, Any]]:
    from ensemble.pipeline.scoring.plain_files import score_files
    from evaluation.leaderboard_text import scores_text
    from evaluation.protocols import PROTOCOLS

    protocols = list(PROTOCOLS) if protocol is None else [protocol]
    document = score_files(target, pred, protocols=protocols, classes=classes, ignore=ignore)
    if "warning" in document:
        log(f"warning: {document['warning']}")
    return scores_text(document), document


def _scored_run(
    run_path: Path | None, candidates: tuple[str, ...], split: str, protocol: str
) -> tuple[str, dict[str, Any], str]:
    from ensemble.pipeline.scoring.score import score_run
    from evaluation.leaderboard_text import leaderboard_document, leaderboard_text

    run = resolve_run(run_path)
    board = score_run(run, candidates, split=split, protocol=protocol, log=log)
    return leaderboard_text(board), leaderboard_document(board), next_command(run, board)
