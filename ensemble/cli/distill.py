"""`ens distill`: train one student network of a candidate, and compare it."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    SpecCommand,
    jobs_options,
    json_option,
    log,
    print_result,
    resolve_run,
    run_option,
)

TRAINER_OPTIONS = ("temperature", "label_share", "confidence", "rounds")


@click.command(
    "distill",
    cls=SpecCommand,
    tables={"architectures": "members.architectures:ARCHITECTURES"},
)
@run_option
@click.option(
    "--candidate", required=True, metavar="C", help="The teacher: a candidate, fusion or member."
)
@click.option(
    "--budget-ms",
    required=True,
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Most milliseconds per image of the student's network, on one core.",
)
@click.option(
    "--member",
    metavar="SPEC",
    help="The student's network: SPEC, NAME=SPEC or 'NAME={architecture: unet, epochs: 40}'; what"
    " it does not set is as in the best member's recipe. By default the widest U-Net that fits.",
)
@click.option(
    "--unlabelled",
    metavar="SPLIT|DATA",
    help="Images without labels that teach too: a split such as test, or a path such as ./more;"
    " by default the experiment's.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(1, 100),
    metavar="T",
    help="Divides the logits of teacher and student; by default 2.",
)
@click.option(
    "--label-share",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="S",
    help="Share of the labels in the loss; by default 0.3.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="P",
    help="Leave out pixels of which the teacher is less certain; by default 0.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 10),
    metavar="R",
    help="Trainings one after the other; earlier students join the teacher on unlabelled images.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    metavar="X",
    help="Difference in score that does not matter.",
)
@click.option("--split", default="validation", show_default=True, help="Split to compare on.")
@jobs_options
@json_option
def command(
    run_path: Path | None,
    candidate: str,
    budget_ms: float,
    member: str | None,
    unlabelled: str | None,
    margin: float,
    split: str,
    device: str,
    workers: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train one student network that learns from a candidate's maps, and compare it.

    The student learns from the out-of-fold (oof) maps of the training images, from maps of images
    without labels, and from the labels. It is compared with its teacher, with the best single
    member, and with the same network trained for as many steps without a teacher: score with
    paired intervals, cost, size. The same command resumes an interrupted one.
    """
    from ensemble.pipeline.workflow.distill import distill_run

    run = resolve_run(run_path)
    result = distill_run(
        run,
        candidate,
        budget_ms=budget_ms,
        member=member,
        unlabelled=unlabelled,
        options={name: options[name] for name in TRAINER_OPTIONS if options[name] is not None},
        margin=margin,
        split=split,
        device=device,
        workers=workers,
        log=log,
    )
    then = None
    if not result.is_worse:
        name = result.candidates[0].name
        then = f"ens freeze --run {run.path} --candidate {name} --format onnx --out student.onnx"
    print_result(result.describe(), result.to_dict(), as_json=as_json, then=then)
