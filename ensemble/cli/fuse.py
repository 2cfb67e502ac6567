"""`ens fuse`: many members' maps into one, in a run or from plain files."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    FILE,
    ignore_option,
    json_option,
    log,
    print_result,
    refuse_in_run,
    refuse_with_files,
    resolve_run,
    run_option,
    workers_options,
)

OF_FILES = ("out", "fit_maps", "fit_target", "images", "fit_images", "seed", "ignore")


@click.command("fuse")
@click.option(
    "--strategy", required=True, metavar="SPEC", help="Such as mean or 'stacking(l2=0.1)'."
)
@click.option("--name", metavar="N", help="Name of the fusion; by default the strategy's.")
@click.option("--members", metavar="A,B,...", help="Members to fuse; by default all.")
@run_option
@click.option(
    "--maps",
    multiple=True,
    type=FILE,
    help="Without a run: a member's maps, .npy or .npz; repeatable.",
)
@click.option(
    "--fit-maps",
    multiple=True,
    type=FILE,
    help="With --maps: held-out maps to fit on, one per member.",
)
@click.option("--fit-target", type=FILE, help="With --maps: target of the held-out maps.")
@click.option("--images", type=FILE, help="Images of --maps, for strategies that use them.")
@click.option("--fit-images", type=FILE, help="Images of --fit-maps.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With --maps: seed of all draws.",
)
@click.option("--out", type=FILE, help="With --maps: the fused maps, .npy.")
@ignore_option
@workers_options
@json_option
def command(
    strategy: str,
    name: str | None,
    members: str | None,
    run_path: Path | None,
    maps: tuple[Path, ...],
    fit_maps: tuple[Path, ...],
    fit_target: Path | None,
    images: Path | None,
    fit_images: Path | None,
    seed: int,
    out: Path | None,
    ignore: int,
    as_json: bool,
) -> None:
    """Fuse the maps of many members into one.

    In a run, every split is fused; a strategy that learns is fitted on the out-of-fold maps. With
    --maps, one file of probabilities per member, (image, class, row, col), floating point or
    uint8, they are fused into --out as float32.
    """
    if maps:
        refuse_with_files("--maps", "run_path", "name", "members")
        from ensemble.pipeline.scoring.plain_files import fuse_files

        document = fuse_files(
            maps,
            strategy,
            out=out,
            fit_maps=fit_maps,
            fit_target=fit_target,
            images=images,
            fit_images=fit_images,
            ignore=ignore,
            seed=seed,
        )
        text = f"{out}: {document['images']} images, {len(maps)} members by {strategy}"
        text += _calibration(document.get("calibration"))
        then = f"ens postprocess --maps {out} --chain suppress_background --out labels.npy"
        print_result(text, document, as_json=as_json, then=then)
        return
    refuse_in_run("--maps", *OF_FILES)
    from ensemble.pipeline.candidates.fuse import calibration_of, fuse_members

    run = resolve_run(run_path)
    chosen = [part.strip() for part in members.split(",") if part.strip()] if members else []
    if members is not None and not chosen:
        raise click.UsageError("--members names no member; write --members A,B or leave it out")
    fusion = fuse_members(run, strategy, name=name, members=chosen, log=log)
    document = {"run": str(run.path), "fusion": fusion, "strategy": strategy}
    if found := calibration_of(run, fusion):
        document["calibration"] = found
    text = f"{run.path}: fusion {fusion} by {strategy}{_calibration(found)}"
    print_result(text, document, as_json=as_json, then=f"ens score --run {run.path}")


def _calibration(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    from ensemble.calibration.calibration_error import describe_calibration

    return f"; {describe_calibration(found)}"
