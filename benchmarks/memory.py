"""Peak memory of `ens postprocess` and `ens score` on plain files, for N and 10 N images.

    .venv/bin/python benchmarks/memory.py [N]

That of `ens fuse` is a part of `ens bench fuse`, which it is measured like.
"""

import sys
import tempfile
from pathlib import Path

from benchmarks.fuse.peak import MORE, anonymous_mb, write_inputs

VERBS = {
    "postprocess": "postprocess --maps a.npy --chain suppress_background|mode_filter "
    "--out labels.npy",
    "score": "score --target target.npy --pred labels.npy --classes 5",
}


def main() -> None:
    """Print the table."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    found: dict[str, list[float]] = {name: [] for name in VERBS}
    for count in (images, MORE * images):
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), count)
            for name, arguments in VERBS.items():
                found[name].append(anonymous_mb(arguments.split(), Path(folder)))
    print(f"| verb | MB, {images} images | MB, {MORE * images} images | ratio |")
    print("|---|---|---|---|")
    for name, (few, many) in found.items():
        print(f"| {name} | {few:.0f} | {many:.0f} | {many / few:.2f} |")


if __name__ == "__main__":
    main()
