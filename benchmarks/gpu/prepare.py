"""Files for a machine with a GPU, Python 3.12, torch, and no network: wheels, and tiles."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadData
from members.data.load_dataset import load_dataset

PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PACKAGES = (
    "annotated-types",
    "click",
    "cloudpickle",
    "dask",
    "distributed",
    "fsspec",
    "google-crc32c",
    "jaxtyping",
    "jinja2",
    "locket",
    "markupsafe",
    "msgpack",
    "numcodecs",
    "numpy",
    "packaging",
    "partd",
    "pillow",
    "psutil",
    "pydantic",
    "pydantic-core",
    "pyyaml",
    "safetensors",
    "sortedcontainers",
    "tblib",
    "toolz",
    "tornado",
    "typing-extensions",
    "typing-inspection",
    "urllib3",
    "wadler-lindig",
    "zict",
)
"""What trainings and Dask need beside torch; without OpenCV, SciPy and pandas, the largest."""

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
MAX_TILES = 1000


def prepare_files(folder: Path, data: Path | None) -> str:
    """Write `wheels/`, and `tiles.npz` if there is a data set; return a line about them."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels)]
    command += ["--only-binary=:all:", "--python-version", PYTHON]
    command += [word for name in PLATFORMS for word in ("--platform", name)]
    subprocess.run([*command, *_pinned()], check=True)
    if data is not None:
        tiles = next((part for part in load_dataset(data).values() if part.masks is not None), None)
        if tiles is None:
            raise BadData(f"{data} holds no masks; expected a labelled set")
        chosen = np.random.default_rng(0).permutation(len(tiles))[:MAX_TILES]
        taken = tiles.take(np.sort(chosen))
        np.savez_compressed(
            folder / "tiles.npz",
            images=taken.images,
            masks=taken.target(),
            groups=taken.group_names(),
        )
    size_mb = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    return f"{folder}: {size_mb:.1f} MB"


def _pinned() -> list[str]:
    """Return each package with the version of constraints.txt for that Python."""
    pins = {}
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        requirement, _, marker = line.partition(";")
        name, _, version = requirement.strip().partition("==")
        if name in PACKAGES and "< '3.12'" not in marker and version:
            pins[name] = f"{name}=={version}"
    return [pins.get(name, name) for name in PACKAGES]
