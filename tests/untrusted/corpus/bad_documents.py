# ruff: noqa: E501  # one case a line
"""Experiment and space files, and folders of a run or a package, changed by a stranger."""

import io
import json
import os
import shutil
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.untrusted.corpus.bad_arrays import head, packed
from tests.untrusted.corpus.cases import (
    PICTURES,
    Bad,
    Case,
    labels,
    maps,
    saved,
    through,
    written,
)

GOOD = "data: sample\nmembers:\n  a: {architecture: unet}\nchains: {c: suppress_background}\n"
LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghi")
)
YAML = {
    "tag": ("data: !!python/object/apply:os.system ['touch pwned']", "could not determine"),
    "name": ("data: !!python/name:os.system", "could not determine"),
    "laughs": (f"{LAUGHS}seed: *i", "an alias, *a"),
    "self": ("members: &a {b: *a}", "an alias, *a"),
    "utf8": (b"data: \xff\xfe", "cannot be read as YAML"),
    "nul": ("data: \x00", "cannot be read as YAML"),
    "deep": ("[" * 5000, "cannot be read as YAML"),
    "long": (GOOD + "# so long\n" * 200_000, "more than 1 MiB"),
    "list": ("[1, 2]", "holds list; expected keys"),
    "nothing": ("", "holds NoneType; expected keys"),
    "key": ("seeds: 1", "unknown key 'seeds'"),
    "key-no-word": ("1: 2", "keys must be words"),
    "seed": ("seed: many", "'seed' got 'many'"),
    "seed-long": ("seed: [" + "9, " * 9000 + "]", "'seed' got [9, 9"),
    "seed-digits": ("folds: 0x" + "f" * 9000, "too long to be written"),
    "int-empty": ("seed: !!int ''", "cannot be read as YAML"),
    "bool-odd": ("seed: !!bool maybe", "cannot be read as YAML"),
    "date-odd": ("seed: 2020-99-99", "cannot be read as YAML"),
    "folds": ("folds: 1", "greater than or equal to 2"),
    "name-leaves": ("members: {../a: {}}", "member name '../a'"),
    "fusion-leaves": ("fusions: {/etc/x: mean}", "fusion name '/etc/x'"),
    "chain-leaves": ("chains: {a/b: ''}", "chain name 'a/b'"),
    "recipe": ("members: {a: {epoch: 1}}", "has no key 'epoch'"),
    "architecture": ("members: {a: {architecture: 'os.system(1)'}}", "cannot read 'os.system(1)'"),
    "spec-deep": ("members: {a: {architecture: '" + "a(" * 3000 + "'}}", "cannot read spec"),
    "classes": ("classes: {names: [a, b], colours: [red, url(x)]}", "colour 'red'; expected #rrggbb"),
    "data-nul": ('data: "a\\0b"', ""),
    "data-long": ("data: " + "a" * 5000, ""),
}  # fmt: skip


def text(content: str | bytes):
    """Return what writes a text."""
    return written(content.encode() if isinstance(content, str) else content)


EXPERIMENTS = [Bad(f"{name}.yaml", text(said), words) for name, (said, words) in YAML.items()]
SPACES = [
    *(bad for bad in EXPERIMENTS[:8]),
    Bad("keys.yaml", text("recipes: {}"), "unknown key 'recipes'"),
    Bad("no-space.yaml", text("recipe: {}"), "names no option"),
    Bad("path.yaml", text("space: {architecture.__class__: [1, 2]}"), "__class__"),
    Bad("infinite.yaml", text("space: {optimizer.lr: [.inf, .nan]}"), "is no number"),
]


def changed(of: str, file: str, change):
    """Return what copies a good folder and changes a file's bytes in it."""

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / of, path)
        found = path / file
        found.write_bytes(change(found.read_bytes()))

    return make


def document(of: str, file: str, **entries):
    """Return what copies a good folder and changes entries of a JSON document in it."""
    return changed(of, file, lambda old: json.dumps({**json.loads(old), **entries}).encode())


def linked(of: str, folder: str):
    """Return what copies a good folder and moves one in it away, behind a link."""

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / of, path)
        (path / folder).rename(path.with_name("elsewhere"))
        (path / folder).symlink_to(path.with_name("elsewhere"))

    return make


def weights(**tensors):
    """Return what puts a package's weights in the place of others, checksums and all."""
    from ensemble.pipeline.package.contents import CONTENTS
    from evaluation.ground.provenance import digest

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / "package", path)
        file = path / WEIGHTS
        file.write_bytes(tensors["change"](file))
        contents = json.loads((path / CONTENTS).read_text())
        contents["files"][WEIGHTS] = digest(file)
        contents["members"]["one"]["architecture"] = tensors.get("spec", "unet(width=2,depth=1)")
        (path / CONTENTS).write_text(json.dumps(contents))

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


def sparse(of: str, file: str):
    """Return what copies a good folder and makes a file eight gigabytes that take no room."""

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / of, path)
        os.truncate(path / file, 1 << 33)

    return make


WEIGHTS = "weights/one/fold-0/weights.safetensors"
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
    Bad("nan", weights(change=nan_inside), "holds NaN or infinite weights"),
    Bad("half", weights(change=as_half), "expected torch.float32"),
    Bad("wide", weights(change=whole, spec="unet(width=90000000,depth=1)"), "of another network"),
    Bad("widest", weights(change=whole, spec="unet(width=9000000000000000000,depth=7)"), "cannot be used"),
    Bad("other", weights(change=whole, spec="segnet"), "of another network"),
    Bad("pickled", weights(change=lambda _: b"\x80\x04\x95" + bytes(90)), "cannot be used"),
    Bad("head", weights(change=lambda _: struct.pack("<Q", 1 << 60) + bytes(90)), "a header of"),
    *(Bad(f"cut-at-{k}", weights(change=lambda file, k=k: whole(file)[: file.stat().st_size * k // 10]), "cannot be used") for k in range(10)),
]  # fmt: skip
STORE = "probabilities/two/validation"
ARRAY = f"{STORE}/maps.zarr/zarr.json"
RUNS = [
    Bad("no-classes", changed("run", "data/classes.json", lambda _: b"[]"), "classes lack names"),
    Bad("meta", document("run", f"{STORE}/store.json", ids=3), "is damaged"),
    Bad("ids", document("run", f"{STORE}/store.json", ids=["a"]), "is damaged"),
    Bad("kind", changed("run", f"{STORE}/store.json", lambda _: b"[]"), "is damaged"),
    Bad("shape", document("run", ARRAY, shape=[6, 5, 1 << 40, 1 << 40]), "is damaged"),
    Bad("chunks", document("run", ARRAY, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [6, 5, 1 << 30, 24]}}), "is damaged"),
    Bad("codec", document("run", ARRAY, codecs=[{"name": "pickle"}]), "is damaged"),
    Bad("chunk-cut", changed("run", f"{STORE}/maps.zarr/c/0/0/0/0", lambda old: old[:99]), "is damaged"),
    Bad("link", linked("run", "probabilities"), "is a link that leads out"),
    Bad("experiment", changed("run", "experiment.yaml", lambda _: b"seed: &a [*a]"), "an alias"),
    Bad("index", changed("run", "data/validation/index.csv", lambda old: old + b"\xff"), "cannot be read"),
    Bad("index-twice", changed("run", "data/validation/index.csv", lambda old: b"\n".join([*old.split()[:-1], old.split()[1]])), "stands twice"),
    Bad("truth", changed("run", "data/validation/truth.npy", lambda _: head(f"({1 << 60},)")), "it holds 64"),
    Bad("pictures", changed("run", "data/validation/pictures.npy", lambda _: saved(maps())), "expected uint8"),
]  # fmt: skip
CANDIDATE = "one_suppress_background"


def recorded(folder: str, name: str, change, part: str = ""):
    """Return what copies the good run and changes a file in it and the digest in its record."""
    from evaluation.ground.provenance import digest

    def make(path: Path):
        changed("run", f"{folder}/{name}", change)(path)
        record = path / folder / f"{part}provenance.json"
        known = json.loads(record.read_text())
        known["outputs"][name] = digest(path / folder / name)
        record.write_text(json.dumps(known))

    return make


def counted(change):
    """Return what changes the counts of a candidate, and their record."""
    return recorded(f"scores/{CANDIDATE}", "validation.npz", change, "validation.")


def labelled(change):
    """Return what changes the label maps of a candidate, and their record."""
    return recorded(f"labels/{CANDIDATE}/validation", "labels.npy", change)


def counts(**arrays):
    """Return what changes arrays of a `.npz`."""

    def change(old: bytes) -> bytes:
        with np.load(io.BytesIO(old)) as archive:
            return saved(None, **{**archive, **arrays})

    return change


SCORES = [
    Bad("score-bit", changed("run", f"scores/{CANDIDATE}/validation.npz", lambda old: old[:-1]), "is not what was written"),
    Bad("score-pickle", counted(lambda _: saved(None, counts=np.array([{}], object), ids=np.array(["a"]), groups=np.array(["a"]))), "never unpickled"),
    Bad("score-nested", counted(lambda old: packed({"inner.npz": old})), "expected arrays"),
    Bad("score-floats", counted(counts(counts=np.full((PICTURES, 5, 5), np.nan))), ""),
    Bad("score-shape", counted(counts(counts=np.zeros((PICTURES, 5, 4), np.int32))), ""),
    Bad("score-negative", counted(counts(counts=np.full((PICTURES, 5, 5), -1))), ""),
    Bad("score-ids", counted(counts(ids=np.array(["a"]))), "1 ids for 6 scored pictures"),
    *(Bad(f"score-cut-at-{k}", counted(lambda old, k=k: old[: len(old) * k // 10]), "is no readable .npz") for k in range(10)),
]  # fmt: skip
LABELLED = [
    Bad("labels-9", labelled(lambda old: old[:-1] + b"\x09"), ""),
    Bad("labels-shape", labelled(lambda _: saved(labels()[:3])), ""),
    Bad("labels-floats", labelled(lambda _: saved(labels().astype(np.float32))), ""),
    Bad("labels-claim", labelled(lambda _: head(f"({1 << 60},)")), "it holds 64"),
    Bad("labels-link", linked("run", "labels"), "is a link that leads out"),
    *(Bad(f"labels-cut-at-{k}", labelled(lambda old, k=k: old[: len(old) * k // 10]), "is no readable .npy") for k in range(10)),
]  # fmt: skip
STORES = RUNS[1:8]
EVERYWHERE = [RUNS[0], RUNS[9]]
HANDING_OVER = [
    f"{verb} --run {{bad}} --candidate {CANDIDATE} {more}"
    for verb, more in (
        ("submit", "--split validation --out {out}.csv"),
        ("freeze", "--out {out}"),
        ("overlay", "--split validation --out {out}.png"),
    )
]
CASES: list[Case] = [
    *through(EXPERIMENTS, "plan --experiment {bad} --run {out}"),
    *through(EXPERIMENTS[::2], "run {bad} --run {out}"),
    *through(EXPERIMENTS[1::3], "train-members --experiment {bad} --run {out}"),
    *through(SPACES, "search {bad} --data {data} --run {out}"),
    *through(PACKAGES, "apply {bad} {data} --out {out}"),
    *through(RUNS[:-4], "fuse --run {bad} --strategy mean"),
    *through(RUNS[-4:], "score --run {bad}", "fuse --run {bad} --strategy mean"),
    *through(STORES, "postprocess --run {bad} --fusion two --chain suppress_background"),
    *through(
        EVERYWHERE,
        *HANDING_OVER[:2],
        "status {bad}",
        "predict --run {bad} --data {data} --split more",
    ),
    *through(SCORES, "score --run {bad}", "compare --run {bad}", "report --run {bad}"),
    *through(RUNS[:1], HANDING_OVER[2]),
    *through(LABELLED, HANDING_OVER[0], HANDING_OVER[2]),
]
