# ruff: noqa: E501  # one case a line
"""Packages that `ens apply` refuses."""

import json
import shutil
import struct
from pathlib import Path

from tests.untrusted.corpus.cases import Bad, Case, through
from tests.untrusted.corpus.folders import (
    changed,
    document,
    linked,
    sparse,
)

WEIGHTS = "weights/one/fold-0/weights.safetensors"


def weights(**tensors):
    """Return what puts a package's weights in the place of others, checksums and all."""
    from ensemble.pipeline.package.manifest import MANIFEST
    from evaluation.core.provenance import digest

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / "package", path)
        file = path / WEIGHTS
        file.write_bytes(tensors["change"](file))
        contents = json.loads((path / MANIFEST).read_text())
        contents["files"][WEIGHTS] = digest(file)
        contents["members"]["one"]["architecture"] = tensors.get("spec", "unet(width=2,depth=1)")
        (path / MANIFEST).write_text(json.dumps(contents))

    return make


def nan_inside(file: Path) -> bytes:
    """Return weights with a NaN."""
    from safetensors.torch import load_file, save

    found = load_file(file)
    next(value for value in found.values() if value.ndim == 4)[0] = float("nan")
    return save(found)


def as_half(file: Path) -> bytes:
    """Return weights of another type."""
    from safetensors.torch import load_file, save

    return save({name: value.half() for name, value in load_file(file).items()})


def whole(file: Path) -> bytes:
    """Return weights as they are."""
    return file.read_bytes()


DEEP = "[" * 100_000
PACKAGES = [
    Bad("no-json", changed("package", "package.json", lambda _: b"{"), "cannot be read as JSON"),
    Bad("deep-json", changed("package", "package.json", lambda _: DEEP.encode()), "as JSON"),
    Bad("sparse-json", sparse("package", "package.json"), "8589934592 bytes"),
    *(Bad(f"json-cut-at-{k}", changed("package", "package.json", lambda old, k=k: old[: len(old) * k // 10]), "as JSON") for k in range(10)),
    Bad("format", document("package", "package.json", format=2), "freeze it again"),
    Bad("more", document("package", "package.json", code="x"), "freeze it again"),
    Bad("leaves", document("package", "package.json", members={"../x": {}}), "member name '../x'"),
    Bad("classes", document("package", "package.json", classes={"names": [1, 2], "ignore": None, "colours": []}), "class name 1"),
    Bad("colours", document("package", "package.json", classes={"names": list("abcde"), "ignore": 0, "colours": ["x"] * 5}), "#rrggbb"),
    Bad("files", document("package", "package.json", files={}), "is not what was frozen"),
    Bad("bit", changed("package", WEIGHTS, lambda old: old[:-1] + b"\x7f"), "is not what was frozen"),
    Bad("link", linked("package", "weights"), "is a link that leads out"),
    Bad("chain", document("package", "package.json", chain="nothing_such"), "unknown"),
    Bad("nan", weights(change=nan_inside), "contains NaN or infinite weights"),
    Bad("half", weights(change=as_half), "expected torch.float32"),
    Bad("wide", weights(change=whole, spec="unet(width=64,depth=1)"), "of another network"),
    Bad("widest", weights(change=whole, spec="unet(width=9000000000000000000,depth=7)"), "equal to 1024"),
    Bad("other", weights(change=whole, spec="segnet"), "of another network"),
    Bad("pickled", weights(change=lambda _: b"\x80\x04\x95" + bytes(90)), "cannot be used"),
    Bad("head", weights(change=lambda _: struct.pack("<Q", 1 << 60) + bytes(90)), "a header of"),
    *(Bad(f"cut-at-{k}", weights(change=lambda file, k=k: whole(file)[: file.stat().st_size * k // 10]), "cannot be used") for k in range(10)),
]  # fmt: skip

CASES: list[Case] = through(PACKAGES, "apply {bad} {data} --out {out}")
