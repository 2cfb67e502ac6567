# ruff: noqa: E501  # one case a line
"""Runs in which a file was changed, with its digest in the records."""

import io

import numpy as np

from tests.untrusted.corpus.bad_arrays import head, packed
from tests.untrusted.corpus.cases import (
    IMAGES,
    Bad,
    Case,
    labels,
    maps,
    saved,
    through,
)
from tests.untrusted.corpus.folders import (
    changed,
    document,
    linked,
    recorded,
)

STORE = "probabilities/two/validation"
ARRAY = f"{STORE}/maps.zarr/zarr.json"
RUNS = [
    Bad("no-classes", changed("run", "data/classes.json", lambda _: b"[]"), "classes lack names"),
    Bad("meta", document("run", f"{STORE}/store.json", images=3), "is damaged"),
    Bad("ids", document("run", f"{STORE}/store.json", images="0" * 64), "is damaged"),
    Bad("sizes", document("run", f"{STORE}/store.json", sizes=[[1, 2, 3]]), "is damaged"),
    Bad("kind", changed("run", f"{STORE}/store.json", lambda _: b"[]"), "is damaged"),
    Bad("shape", document("run", ARRAY, shape=[6, 5, 1 << 40, 1 << 40]), "is damaged"),
    Bad("chunks", document("run", ARRAY, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [6, 5, 1 << 30, 24]}}), "is damaged"),
    Bad("codec", document("run", ARRAY, codecs=[{"name": "pickle"}]), "is damaged"),
    Bad("chunk-cut", changed("run", f"{STORE}/maps.zarr/c/0/0/0/0", lambda old: old[:99]), "is damaged"),
    Bad("link", linked("run", "probabilities"), "is a link that leads out"),
    Bad("experiment", changed("run", "experiment.yaml", lambda _: b"seed: &a [*a]"), "an alias"),
    Bad("index", changed("run", "data/validation/index.csv", lambda old: old + b"\xff"), "cannot be read"),
    Bad("index-twice", changed("run", "data/validation/index.csv", lambda old: b"\n".join([*old.split()[:-1], old.split()[1]])), "is duplicated"),
    Bad("target", changed("run", "data/validation/target.npy", lambda _: head(f"({1 << 60},)")), "it holds 64"),
    Bad("images", changed("run", "data/validation/images.npy", lambda _: saved(maps().astype(float))), "expected uint8"),
]  # fmt: skip
CANDIDATE = "one_suppress_background"


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
    Bad("score-floats", counted(counts(counts=np.full((IMAGES, 5, 5), np.nan))), ""),
    Bad("score-shape", counted(counts(counts=np.zeros((IMAGES, 5, 4), np.int32))), ""),
    Bad("score-negative", counted(counts(counts=np.full((IMAGES, 5, 5), -1))), ""),
    Bad("score-ids", counted(counts(ids=np.array(["a"]))), "1 ids for 6 scored images"),
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
    f"{command} --run {{bad}} --candidate {CANDIDATE} {more}"
    for command, more in (
        ("submit", "--split validation --out {out}.csv"),
        ("freeze", "--out {out}"),
        ("overlay", "--split validation --out {out}.png"),
    )
]
TUNE = "tune-postproc --run {bad} --fusion one"
UNSURE = "members uncertainty --run {bad} --out {out}"
CASES: list[Case] = [
    *through(RUNS[:-4], "fuse --run {bad} --strategy mean"),
    *through(RUNS[-4:], "score --run {bad}", "fuse --run {bad} --strategy mean"),
    *through(STORES, "postprocess --run {bad} --fusion two --chain suppress_background"),
    *through(EVERYWHERE, *HANDING_OVER[:2], "status --run {bad}", TUNE, UNSURE, "predict --run {bad} --data {data} --split more"),
    *through(SCORES, "score --run {bad}", "compare --run {bad}", "report --run {bad}"),
    *through(RUNS[:1], HANDING_OVER[2]),
    *through(LABELLED, HANDING_OVER[0], HANDING_OVER[2]),
]  # fmt: skip
