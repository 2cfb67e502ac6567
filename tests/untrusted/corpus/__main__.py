"""Run every case through the command in one process, and write the results to a file."""

import contextlib
import io
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

from tests.untrusted.corpus import (
    bad_arrays,
    bad_documents,
    bad_images,
    bad_maps,
    bad_packages,
    bad_runs,
)
from tests.untrusted.corpus.cases import COLS, ROWS, Case, labels, maps

BAD = (bad_arrays, bad_documents, bad_maps, bad_packages, bad_images, bad_runs)
CASES: list[Case] = [case for kind in BAD for case in kind.CASES]


def main(folder: Path) -> None:
    """Run the cases in a folder, and write `results.json` to it."""
    from ensemble.cli import run_command

    os.chdir(folder)
    warnings.simplefilter("default")
    good = good_files(folder / "good", run_command)
    (folder / "out").mkdir()
    results = {}
    for number, case in enumerate(CASES):
        here = folder / "cases" / str(number)
        here.mkdir(parents=True)
        bad, started = here / case.bad.name, time.monotonic()
        case.bad.make(bad)
        out = folder / "out" / str(number)
        words = [word.format(bad=bad, out=out, **good) for word in case.words.split()]
        watched = (here, folder / "good", folder / "out")
        before, stderr = tree(*watched), io.StringIO()
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = run_command(words)
            except BaseException:  # what a user would see as a traceback
                traceback.print_exc()
                code = 1
        results[case.name] = {
            "code": code,
            "stderr": stderr.getvalue(),
            "expected": case.expected,
            "written": sorted(tree(*watched) - before),
            "seconds": time.monotonic() - started,
            "peak_mb": peak_mb(),
        }
    (folder / "results.json").write_text(json.dumps(results))


def peak_mb() -> float:
    """Return this process's largest memory; `ru_maxrss` begins with that of the pytest worker."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def good_files(folder, run_command) -> dict[str, str]:
    """Write what goes with the bad files, and return where by name."""
    import numpy as np

    folder.mkdir(parents=True)
    np.save(folder / "maps.npy", maps())
    np.save(folder / "target.npy", labels())
    images = np.random.default_rng(2).integers(0, 256, (24, ROWS, COLS)).astype(np.uint8)
    masks = np.concatenate([labels()] * 4)
    np.savez(folder / "data.npz", images=images, masks=masks)
    np.savez(folder / "validation.npz", images=images[:6], masks=labels())
    data = ["--data", str(folder / "data.npz"), "--validation", str(folder / "validation.npz")]
    run_folder, package = str(folder / "run"), str(folder / "package")
    network = ["--member", "one=unet(width=2,depth=1)", "--epochs", "1", "--folds", "2"]
    here = ["--run", run_folder]
    validation = ["--split", "validation", *here]
    for words in (
        ["train-members", "--ignore", "0", *data, *network, *here, "--workers", "1"],
        # The maps are drawn, so nothing supports their order.
        ["import", str(folder / "maps.npy"), "--no-checks", "--name", "two", *validation],
        ["postprocess", "--fusion", "one", "--chain", "suppress_background", *here],
        ["score", *here],
        ["freeze", "--candidate", "one_suppress_background", "--out", package, *here],
    ):
        assert run_command(words) == 0, words
    (folder / "space.yaml").write_text("recipe: {epochs: 1}\nspace: {architecture.width: [2, 3]}\n")
    names = {
        "space": "space.yaml",
        "data": "data.npz",
        "maps": "maps.npy",
        "target": "target.npy",
        "run": "run",
        "package": "package",
    }
    return {name: str(folder / file) for name, file in names.items()}


def tree(*folders: Path) -> set[str]:
    """List all files and folders in folders, with their sizes."""
    return {
        f"{path} {path.lstat().st_size if path.is_file() else ''}"
        for folder in folders
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
