"""`ens fuse`: fuse the maps of many members, in a run or from plain files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli.completion import complete_spec
from ensemble.cli.options import (
    FILE,
    SEED,
    SpecCommand,
    json_option,
    label_options,
    log,
    memory_option,
    options_of_source,
    print_result,
    resolve_run,
    run_option,
    workers_options,
)
from evaluation.core.errors import format_count

if TYPE_CHECKING:
    from ensemble.strategies import Missing

RUN_OPTIONS = ("run_path", "name", "members", "missing")
FILE_OPTIONS = (
    "maps",
    "out",
    "fit_maps",
    "fit_target",
    "images",
    "fit_images",
    "seed",
    "logits",
    "missing",
    "labels",
)


@click.command(
    "fuse",
    cls=SpecCommand,
    tables={
        "strategies": "ensemble.strategies:STRATEGIES",
        "calibrate=": "ensemble.calibration:CALIBRATORS",
    },
)
@click.option(
    "--strategy",
    required=True,
    metavar="SPEC",
    help="Such as mean or 'stacking(l2=0.1)'.",
    shell_complete=complete_spec("ensemble.strategies:STRATEGIES"),
)
@click.option("--name", metavar="N", help="Name of the fusion; by default the strategy's.")
@click.option("--members", metavar="A,B,...", help="Members to fuse; by default all.")
@run_option
@click.option(
    "--maps",
    multiple=True,
    type=FILE,
    help="Without a run: probability maps of a member, a file or a folder; repeatable.",
)
@click.option(
    "--fit-maps",
    multiple=True,
    type=FILE,
    help="With --maps: held-out maps (of images that no member was trained on), one per member.",
)
@click.option("--fit-target", type=FILE, help="With --maps: ground truth of the held-out maps.")
@click.option("--images", type=FILE, help="Images of --maps, for strategies that need them.")
@click.option("--fit-images", type=FILE, help="Images of --fit-maps.")
@click.option(
    "--seed",
    type=SEED,
    default=0,
    show_default=True,
    help="With --maps: random seed.",
)
@click.option("--out", type=FILE, help="With --maps: fused maps, .npy or a folder.")
@click.option("--logits", is_flag=True, help="With --maps: all maps are logits; take the softmax.")
@click.option(
    "--missing",
    type=click.Choice(["refuse", "skip", "renormalise"]),
    default="refuse",
    show_default=True,
    help="Images that a member lacks: refuse; skip them (--maps only); or fuse the members that"
    " have them, with renormalised weights.",
)
@label_options
@workers_options
@memory_option
@json_option
def command(strategy: str, as_json: bool, **options: Any) -> None:
    """Fuse the probability maps of many members into one.

    In a run, every split is fused. A strategy that learns is fitted on the out-of-fold maps
    (out-of-fold: predicted by the fold model that did not train on the image). With --maps, one
    file per member, (image, class, row, col), floating point or uint8, or a folder with one file
    per image, the maps are fused into --out as float32. Images of several sizes need folders.

    Classes may be on the last axis: probabilities show it, for logits give --classes. Of two
    classes, one channel is the probability of the foreground.
    """
    from_files = bool(options["maps"])
    fuse = _fuse_files if from_files else _fuse_in_run
    text, document, then = fuse(
        strategy,
        **options_of_source(
            options,
            from_files=from_files,
            file_option="--maps",
            file_options=FILE_OPTIONS,
            run_options=RUN_OPTIONS,
        ),
    )
    print_result(text, document, as_json=as_json, then=then)


def _fuse_files(
    strategy: str, *, maps: tuple[Path, ...], out: Path | None, **options: Any
) -> tuple[str, dict[str, Any], str]:
    from ensemble.cli.plain_files import fuse_files

    document = fuse_files(maps, strategy, out=out, **options)
    if "missing" in document:
        log(f"{out}: {document['missing']['note']}")
    if "decision" in document:
        log(f"{out}: {document['decision']}")
    images, members = format_count(document["images"], "image"), format_count(len(maps), "member")
    text = f"{out}: {images}, {members} by {strategy}"
    text += _format_calibration(document.get("calibration"))
    then = f"ens postprocess --maps {out} --chain mode_filter --out labels.npy"
    return text, document, then


def _fuse_in_run(
    strategy: str,
    *,
    run_path: Path | None,
    name: str | None,
    members: str | None,
    missing: "Missing",
) -> tuple[str, dict[str, Any], str]:
    from ensemble.pipeline.candidates.fuse import calibration_of, fuse_members

    run = resolve_run(run_path)
    chosen = [part.strip() for part in members.split(",") if part.strip()] if members else []
    if members is not None and not chosen:
        raise click.UsageError("--members names no member; write --members A,B or leave it out")
    fusion = fuse_members(run, strategy, name=name, members=chosen, missing=missing, log=log)
    document: dict[str, Any] = {"run": str(run.path), "fusion": fusion, "strategy": strategy}
    calibration = calibration_of(run, fusion)
    if calibration:
        document["calibration"] = calibration
    text = f"{run.path}: fusion {fusion} by {strategy}{_format_calibration(calibration)}"
    return text, document, f"ens score --run {run.path}"


def _format_calibration(calibration: dict[str, Any] | None) -> str:
    if not calibration:
        return ""
    from ensemble.calibration.calibrated import describe_calibration

    return f"; {describe_calibration(calibration)}"
