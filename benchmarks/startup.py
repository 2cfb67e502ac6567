"""What a command on plain files costs beside `import numpy`, and what it imports.

    python -m benchmarks.startup [--rounds 7]

Two label files of 1,000 x 64 x 128 (uint8, 5 classes) are scored by `ens score` in a process of its
own, in turns with `python -c "import numpy"`. Printed are the ratio of the fastest runs, and for
several commands how many modules of the packages and which heavy libraries are loaded at the end.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

IMAGES, ROWS, COLS, CLASSES = 1000, 64, 128, 5
HEAVY = ("torch", "zarr", "distributed", "optuna", "pandas", "scipy.stats", "sklearn", "cv2")
PACKAGES = ("evaluation", "members", "postproc", "ensemble")

COMMAND = "import sys; from ensemble.cli import run_command; code = run_command(sys.argv[1:])"
LOADED = """
import json
print(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
def main(rounds: int) -> None:
    """Measure the start of commands on plain files."""
    with tempfile.TemporaryDirectory() as name:
        commands = write_inputs(Path(name))
        score = [sys.executable, "-c", COMMAND, *commands["score"]]
        numpy_alone = [sys.executable, "-c", "import numpy"]
        times = {"ens score": [seconds(score)], "import numpy": [seconds(numpy_alone)]}
        for _ in range(rounds):
            times["ens score"].append(seconds(score))
            times["import numpy"].append(seconds(numpy_alone))
        fastest = {what: min(runs[1:]) for what, runs in times.items()}
        ratio = fastest["ens score"] / fastest["import numpy"]
        click.echo(
            f"ens score {fastest['ens score']:.3f} s, import numpy {fastest['import numpy']:.3f} s,"
            f" ratio {ratio:.1f}"
        )
        for what, arguments in commands.items():
            loaded = modules_after(arguments)
            own = sum(module.split(".")[0] in PACKAGES for module in loaded)
            heavy = [library for library in HEAVY if library in loaded]
            click.echo(f"{what}: {own} modules of ens; loads {', '.join(heavy) or 'nothing heavy'}")


def write_inputs(folder: Path) -> dict[str, list[str]]:
    """Write label files and maps, and return the arguments of each command."""
    rng = np.random.default_rng(0)
    shape = (IMAGES, ROWS, COLS)
    for name in ("target", "pred"):
        np.save(folder / f"{name}.npy", rng.integers(0, CLASSES, shape, dtype=np.uint8))
    for name in ("a", "b"):
        maps = rng.dirichlet(np.ones(CLASSES), (64, ROWS, COLS)).transpose(0, 3, 1, 2)
        np.save(folder / f"{name}.npy", maps.astype(np.float32))
    target, pred, a, b = (str(folder / f"{name}.npy") for name in ("target", "pred", "a", "b"))
    classes = ["--classes", str(CLASSES)]
    return {
        "score": ["score", "--target", target, "--pred", pred, *classes],
        "audit": ["audit", "--target", target, "--pred", target, "--pred", pred, *classes],
        "fuse": [
            "fuse",
            *("--maps", a, "--maps", b, "--strategy", "mean"),
            "--out",
            str(folder / "fused.npy"),
        ],
        "postprocess": ["postprocess", "--maps", a, "--chain", "", "--out", str(folder / "l.npy")],
    }


def seconds(command: Sequence[str]) -> float:
    """Return the wall time of a process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def modules_after(arguments: Sequence[str]) -> list[str]:
    """Return the modules that are loaded when a command ends."""
    script = COMMAND + LOADED
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True
    )
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


if __name__ == "__main__":
    main()
