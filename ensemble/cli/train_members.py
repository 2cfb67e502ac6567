"""`ens train-members`: train networks in every fold and write their maps."""

import time
from pathlib import Path
from typing import Any

import click

from ensemble.cli.completion import complete_spec
from ensemble.cli.options import (
    FILE,
    SEED,
    SpecCommand,
    jobs_options,
    json_option,
    label_options,
    layout_options,
    log,
    print_result,
)
from evaluation.core.errors import check_distinct, format_count
from evaluation.core.run_folder import RUNS, Run


@click.command(
    "train-members",
    cls=SpecCommand,
    tables={
        "architectures": "members.architectures:ARCHITECTURES",
        "losses": "members.losses:LOSSES",
        "augmentations": "members.augmentations:AUGMENTATIONS",
        "trainers": "members.trainers:TRAINERS",
        "schedules": "members.optimizers:SCHEDULES",
        "protocols": "evaluation.protocols:ALL_PROTOCOLS",
    },
)
@click.option(
    "--data",
    metavar="DATA",
    help="Training data (forms: `ens data --help`); by default the run's, else the sample.",
)
@click.option(
    "--validation",
    metavar="DATA",
    help="A labelled set, or IDS.txt of images in --data; by default what the data's own split"
    " says, else 15 % are set aside.",
)
@click.option(
    "--run",
    "run_path",
    type=FILE,
    metavar="RUN",
    help="Run folder; by default a new one, runs/TIME.",
)
@click.option("--experiment", type=FILE, metavar="FILE", help="Take data and members from here.")
@click.option(
    "--member",
    "members",
    shell_complete=complete_spec("members.architectures:ARCHITECTURES"),
    multiple=True,
    metavar="MEMBER",
    help="SPEC of an architecture, such as 'unet(width=16)', NAME=SPEC, or a recipe,"
    " 'NAME={architecture: unet, loss: dice, epochs: 40}'; repeatable.",
)
@click.option(
    "--specialists",
    metavar="SPEC",
    help="One binary network of this architecture per class, together the member 'specialists';"
    " --member 'NAME=specialists(SPEC)' gives another name.",
)
@click.option(
    "--folds", type=click.IntRange(2, 100), metavar="K", help="Number of folds; by default 3."
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="E",
    help="Maximum number of epochs; a recipe's own epochs win.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 100),
    metavar="R",
    help="Train each member R times from other seeds, as NAME-1 to NAME-R; or `repeats: R` in a"
    " recipe.",
)
@click.option(
    "--train-share",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="S",
    help="Train on only this share of each fold's training groups.",
)
@click.option(
    "--tta",
    metavar="SPEC",
    help="Test-time augmentation: flips, turns, scales, crops, or flips+scales.",
)
@click.option(
    "--tta-merge",
    type=click.Choice(["mean", "geometric_mean", "max"]),
    help="How the maps of the views are merged; by default mean.",
)
@label_options
@layout_options
@click.option(
    "--objective-metric",
    metavar="SPEC",
    help="The run's metric, which stops training, selects and ranks: masked, dice, iou(of=CLASS),"
    " foreground(but=CLASS); by default masked, or the IoU of a declared foreground.",
)
@click.option("--seed", type=SEED, metavar="S", help="Random seed; by default 0.")
@jobs_options
@click.option("--only", multiple=True, metavar="NAME", help="Train only this member; repeatable.")
@click.option(
    "--drop", type=click.Path(), metavar="IDS.txt", help="Leave out these training images."
)
@click.option(
    "--size",
    metavar="HxW",
    help="Resize images for the networks; maps and scores keep the images' own size.",
)
@click.option(
    "--fit",
    type=click.Choice(["stretch", "pad", "crop"]),
    help="With --size: stretch images (by default), or keep their proportions and pad them, or cut"
    " out the centre for training.",
)
@click.option(
    "--drop-outliers", is_flag=True, help="Leave out images that share one non-constant mask."
)
@click.option(
    "--store-dtype",
    metavar="float16|uint8|float32|compact|topk(k=4)",
    help="How maps are kept on disk; by default float16. uint8 and compact round to 1/255; compact"
    " packs as well; topk packs the k largest classes of a pixel and spreads the rest evenly.",
)
@click.option(
    "--store", metavar="URL", help="Write maps into an object store, such as s3://bucket/runs."
)
@json_option
def command(
    run_path: Path | None,
    device: str,
    workers: int | None,
    only: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Train members in every fold and write their probability maps of every split.

    Without --member the default members are trained: a U-Net, a U-Net with ASPP, DeepLabv3+ and
    specialists. Existing results are kept: with --run, the same command resumes an interrupted
    one.
    """
    from ensemble.pipeline.members.train import train_members
    from ensemble.pipeline.run.experiment import experiment_from_options

    run = Run(run_path or RUNS / time.strftime("%Y%m%d-%H%M%S"))
    experiment = experiment_from_options(run, **options)
    if run_path is None:
        log(f"a new run: {run.path}; --run {run.path} resumes it")
    # A comma list works too, as the command that retries failed members prints it.
    names = [name.strip() for part in only for name in part.split(",")]
    check_distinct("--only:", names)
    trained = train_members(run, experiment, only=names, device=device, workers=workers, log=log)
    document = {"run": str(run.path), "members": [member.name for member in trained]}
    networks = format_count(len(trained), "network")
    text = f"{run.path}: {networks} trained, {', '.join(document['members'])}"
    several = len({member.family or member.name for member in trained}) > 1
    then = "fuse --strategy stacking" if several else "score"  # one member is nothing to fuse
    print_result(text, document, as_json=as_json, then=f"ens {then} --run {run.path}")
