# ruff: noqa: E501  # one case a line
"""Malformed experiment and search-space files."""

from itertools import pairwise

from tests.untrusted.corpus.cases import (
    Bad,
    Case,
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
    "date-odd": ("seed: 2020-99-99", "'seed' got '2020-99-99'"),
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


EXPERIMENTS = [
    Bad(f"{name}.yaml", text(content), message) for name, (content, message) in YAML.items()
]
SPACES = [
    *(bad for bad in EXPERIMENTS[:8]),
    Bad("keys.yaml", text("recipes: {}"), "unknown key 'recipes'"),
    Bad("no-space.yaml", text("recipe: {}"), "names no option"),
    Bad("path.yaml", text("space: {architecture.__class__: [1, 2]}"), "__class__"),
    Bad("infinite.yaml", text("space: {optimizer.lr: [.inf, .nan]}"), "is not a finite number"),
]

CASES: list[Case] = [
    *through(EXPERIMENTS, "plan {bad} --run {out}"),
    *through(EXPERIMENTS[::2], "run {bad} --run {out}"),
    *through(EXPERIMENTS[1::3], "train-members --experiment {bad} --run {out}"),
    *through(SPACES, "search {bad} --data {data} --run {out}"),
]
