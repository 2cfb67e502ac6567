"""Time of `ens fuse`, `postprocess` and `score` on plain files, against another source tree.

git worktree add ../before COMMIT
.venv/bin/python -m benchmarks.against_tree ../before
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from benchmarks.command import run_command
from benchmarks.synthetic import draw_maps_of
from ensemble.cli.options import FILE, json_option, log, print_result, rounds_option
from ensemble.pipeline.bench.timing import compared, machine
from evaluation.core.errors import BadData, BadRun
from evaluation.core.progress import Log
from evaluation.core.types import Labels
from members.data.load_dataset import load_dataset
from members.data.sample import draw_sample

THIS, OTHER = "this tree", "other tree"
HERE = Path(__file__).parents[1]
MEMBERS = ("a", "b")
PER_PROCESS = 3
"""Runs per process, of which the fastest counts; one more warms up."""

FUSE = "fuse --maps a.npy --maps b.npy --out fused.npy"
HELD_OUT = "--fit-maps a.npy --fit-maps b.npy"
COMMANDS = {
    "fuse, mean": [f"{FUSE} --strategy mean"],
    "fuse, stacking": [
        f"{FUSE} {HELD_OUT} --fit-target target.npy --strategy stacking(objective=log_loss)",
        f"{FUSE} {HELD_OUT} --fit-truth target.npy --strategy stacking",
    ],
    "postprocess": ["postprocess --maps a.npy --chain mode_filter|remove_small --out labels.npy"],
    "score": [
        "score --target target.npy --pred labels.npy --classes {classes}",
        "score --truth target.npy --guess labels.npy --classes {classes}",
    ],
}
"""Arguments of `ens`, then what older trees call the same; the first that a tree knows is timed."""

CHILD = """
import contextlib, io, json, sys, time
from pathlib import Path
import ensemble
from ensemble.cli import ens

def call(line):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ens.main(args=line.split(), prog_name="ens", standalone_mode=False)

def known(lines):
    for line in lines[:-1]:
        try:
            call(line)
            return line
        except Exception:
            pass
    call(lines[-1])
    return lines[-1]

tree, commands, runs = json.loads(sys.argv[1])
if not Path(ensemble.__file__).is_relative_to(tree):
    sys.exit(f"imports {ensemble.__file__}, not the packages of {tree}")
seconds = {}
for name, lines in commands.items():
    line, times = known(lines), []
    for _ in range(runs):
        start = time.process_time()
        call(line)
        times.append(time.process_time() - start)
    seconds[name] = min(times)
print(json.dumps(seconds))
"""


@click.command("against_tree")
@click.argument("tree", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--images", type=click.IntRange(1), default=1024, show_default=True, help="Drawn images."
)
@click.option(
    "--data", type=FILE, metavar="NPZ", help="Instead, a labelled data set of images of one size."
)
@rounds_option(6)
@json_option
def against_tree(tree: Path, images: int, data: Path | None, rounds: int, as_json: bool) -> None:
    """Time commands of this source tree and of another one, TREE, by processor time."""
    target, classes = read_target(images, data)
    document = bench_against_tree(tree, target, classes, rounds, log)
    print_result(format_against_tree(document), document, as_json=as_json)


def read_target(images: int, data: Path | None) -> tuple[Labels, int]:
    """Return masks and the number of classes, of the built-in sample or of a data set.

    Raises:
        BadData: a data set without masks, or of images of several sizes.
    """
    sets = draw_sample(images=images).sets() if data is None else load_dataset(data)
    labelled = sets.get("training")
    if labelled is None or labelled.extent.one_size is None:
        raise BadData(f"{data} has no masks of one size; expected labelled images of one size")
    return np.asarray(labelled.target()[:]), len(labelled.classes)


def bench_against_tree(
    tree: Path, target: Labels, classes: int, rounds: int, log: Log
) -> dict[str, Any]:
    """Time commands on the same files, in turns, each time in a fresh process of each tree.

    Args:
        tree: the other source tree.
        target: masks, (image, row, col); the maps of two members are drawn around them.
        classes: number of classes.
        rounds: processes per tree.
        log: receives a line per round.

    Returns:
        A JSON document: the machine, the tree, the sizes, and for each command seconds and ratios
        of both trees; see `compared`.

    Raises:
        BadRun: a command failed, or a tree without these packages.
    """
    trees = {OTHER: tree.resolve(), THIS: HERE}
    lines = {name: [line.format(classes=classes) for line in of] for name, of in COMMANDS.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {t: [] for t in trees} for name in lines}
    with TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        np.save(folder / "target.npy", target)
        for member in MEMBERS:
            np.save(folder / f"{member}.npy", draw_maps_of(rng, target, classes))
        for number in range(rounds):
            log(f"round {number + 1} of {rounds}")
            for side in list(trees)[:: -1 if number % 2 else 1]:
                for what, value in _measure(trees[side], lines, folder).items():
                    seconds[what][side].append(value)
    return {
        "machine": machine(),
        "tree": str(trees[OTHER]),
        "shape": list(target.shape),
        "classes": classes,
        "rounds": rounds,
        "commands": {what: compared(sides, OTHER) for what, sides in seconds.items()},
    }


def format_against_tree(document: dict[str, Any]) -> str:
    """Return what `bench_against_tree` returns as a table."""
    images, rows, cols = document["shape"]
    lines = [f"{images} images of {rows} x {cols}, {document['classes']} classes; processor time"]
    lines.append(f"{'':18}{OTHER + ', ms':>16}{THIS + ', ms':>15}{'of minima':>11}{'ratio':>8}")
    for name, sides in document["commands"].items():
        other, this = sides[OTHER], sides[THIS]
        lines.append(
            f"{name:18}{1000 * other['minimum_s']:16.0f}{1000 * this['minimum_s']:15.0f}"
            f"{this['ratio_of_minima']:11.2f}{this['ratio']:8.2f}"
        )
    return "\n".join(lines)


def _measure(tree: Path, lines: dict[str, list[str]], folder: Path) -> dict[str, float]:
    """Return the seconds of each command, in a process that imports the packages of a tree."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", CHILD, json.dumps([str(tree), lines, PER_PROCESS])]
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BadRun(f"commands of {tree} failed: {done.stderr[-500:]}")
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


if __name__ == "__main__":
    run_command(against_tree, "benchmarks.against_tree")
