"""What each change of a recipe is worth on images that were held out, from few trainings.

    nice .venv/bin/python -m benchmarks.ablations --run runs/ablations     # resumes

Changes are not tried one by one. Each of 16 trainings has a half of them, so that all trainings
compare each change: 8 with it and 8 without, in which every other change occurs as often. No effect
of one change is mixed with a joint effect of two (a fractional factorial design of resolution IV).
Changes of `augment` add to the recipe's own. Each round of 16 holds out another fold, and takes
other seeds; flips at test time are a further column. The validation set is not opened for scores.

The interval of an effect holds over trainings, by what the effects do not explain, and over
groups of images, by the jackknife.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from ensemble.cli.options import json_option, print_result
from ensemble.pipeline.data.prepare import prepare, read_folds
from ensemble.pipeline.run.experiment import Experiment, resolve_data_path
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadRun, BadSpec, EnsError
from evaluation.core.files import atomic_file
from evaluation.core.provenance import digest_of
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.core.safe_yaml import read_yaml
from evaluation.intervals import LEVEL, effective_freedom, student_quantile
from evaluation.protocols import masked
from evaluation.scores import CandidateScores, ScoredImages
from members.data.dataset import DataSet
from members.jobs import run_jobs
from members.predict import predict
from members.recipe import Member, Recipe
from members.train import Fold, load_network, train_fold

HERE = Path(__file__).parent
VIEWS = {"plain": None, "flips": "flips"}
"""Test-time augmentations, by column of the stored counts."""
GENERATORS = ((1, 2, 3), (0, 2, 3), (0, 1, 2), (0, 1, 3))
"""The last four changes go with the product of these of the first four."""
FIXED = ("patience", "tta")
"""Keys that a change cannot have: trainings end with their last epoch, and views are columns."""
TRAININGS, CHANGES = 16, 4 + len(GENERATORS)
MASKED = masked()

Design = Bool[np.ndarray, "training change"]
Contrast = Float[np.ndarray, " training"]


class Ablations(Experiment):
    """Data, a recipe, and up to eight changes of it.

    Args:
        recipe: keys of the recipe that is changed.
        changes: by name, keys that replace the recipe's; `augment` is added to it.
    """

    recipe: dict[str, Any] = Field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def changed(self, chosen: Iterator[str]) -> Recipe:
        """Return the recipe with some changes."""
        keys = dict(self.recipe)
        augment = list(keys.get("augment", Recipe().augment))
        for name in chosen:
            keys |= self.changes[name]
            augment += self.changes[name].get("augment", [])
        return Recipe(**{**keys, "augment": tuple(augment)})


@dataclass(frozen=True)
class Training:
    """One row of the design on one fold: trains, and writes the counts of the held-out images."""

    number: int
    member: Member
    data: Path
    fold: Fold
    seed: int
    out: Path

    def __call__(self, device: str) -> None:
        """Write counts (view, image, target, prediction)."""
        data = DataSet.load(self.data)
        with TemporaryDirectory() as folder:
            train_fold(
                self.member, data, self.fold, seed=self.seed, device=device, folder=Path(folder)
            )
            network = load_network(
                self.member, Path(folder), channels=data.channels, classes=len(data.classes)
            ).to(device)
        counts = []
        for tta in VIEWS.values():
            recipe = self.member.recipe.model_copy(update={"tta": tta})
            member = Member(self.member.name, recipe)
            counts.append(_held_out_counts(network, data, self.fold, device, member))
        with atomic_file(self.out) as partial, partial.open("wb") as file:
            np.save(file, np.stack(counts))


def _held_out_counts(
    network: Any, data: DataSet, fold: Fold, device: str, member: Member
) -> np.ndarray:
    held_out = fold.held_out(len(data))
    tables = []
    for block in blocks(data.extent.take(held_out)):
        images = np.asarray(data.images[held_out[block]])
        predicted = argmax(predict(network, images, device, member))
        target = np.asarray(data.target()[held_out[block]])
        tables.append(confusion(target, predicted, classes=len(data.classes)))
    return np.concatenate(tables)


def design(changes: int) -> Design:
    """Return which of 16 trainings have which of up to 8 changes.

    Examples:
        >>> half = design(8).sum(axis=0)
        >>> half.tolist()
        [8, 8, 8, 8, 8, 8, 8, 8]
    """
    signs = 1 - 2 * (np.arange(TRAININGS)[:, np.newaxis] >> np.arange(4) & 1)
    products = [signs[:, list(columns)].prod(axis=1) for columns in GENERATORS]
    chosen: Design = np.column_stack([signs, *products])[:, :changes] < 0
    return chosen


def read_ablations(path: Path) -> Ablations:
    """Read an ablation file; paths in it are relative to its folder.

    Raises:
        BadSpec: more changes than the design holds.
    """
    content = read_yaml(path, "an ablation file")
    if not isinstance(content, dict):
        raise BadSpec(
            f"{path} holds {type(content).__name__}; expected keys such as recipe, changes"
        )
    config = Ablations(**content)
    if not 1 <= len(config.changes) <= CHANGES:
        raise BadSpec(f"{path} holds {len(config.changes)} changes; expected 1 to {CHANGES}")
    keys = Counter(key for change in config.changes.values() for key in change if key != "augment")
    for key, times in keys.items():
        if times > 1 or key in FIXED:
            raise BadSpec(
                f"{path}: {key!r} is changed {times} times; expected once at most, and never"
                f" {' or '.join(FIXED)}, which every training has alike"
            )
    near = {key: resolve_data_path(str(path.parent / getattr(config, key)))
            for key in ("data", "validation") if getattr(config, key)}  # fmt: skip
    return config.model_copy(update=near)


def trainings(run: Run, config: Ablations, rounds: int) -> list[Training]:
    """Return the trainings of all rounds, in the order in which they are made."""
    folds, result = read_folds(run), []
    if rounds > len(folds):
        raise BadSpec(f"--rounds {rounds}; expected at most {len(folds)}, one per fold")
    (run.path / "counts").mkdir(exist_ok=True)
    for turn in range(rounds):
        for number, row in enumerate(design(len(config.changes))):
            recipe = config.changed(
                name for name, on in zip(config.changes, row, strict=True) if on
            ).model_copy(update={"patience": 1000})
            index = turn * TRAININGS + number
            fold, seed = folds[turn], config.seed + turn
            member = Member(f"training-{index}", recipe)
            made_of = digest_of([recipe.model_dump(mode="json"), seed, fold.index])
            out = run.path / "counts" / f"{index}-{made_of[:12]}.npy"
            result.append(Training(index, member, run.data(OOF), fold, seed, out))
    return result


def effects(run: Run, config: Ablations, rounds: int) -> list[dict[str, Any]]:
    """Return the effect of each change and of flips, in mIoU, over rounds that are complete."""
    data, folds = DataSet.load(run.data(OOF)), read_folds(run)
    chosen = design(len(config.changes))
    signs = np.where(chosen, 1, -1) * 2 / TRAININGS  # of half the trainings
    made = trainings(run, config, rounds)
    if missing := [one.member.name for one in made if not one.out.is_file()]:
        raise BadRun(f"{len(missing)} of {len(made)} trainings failed, the first is {missing[0]}")
    scores, left_out = [], []
    for turn in range(rounds):
        held_out = folds[turn].held_out(len(data))
        groups = held_out if data.groups is None else data.groups[held_out]
        counts = [
            np.load(training.out) for training in made[turn * TRAININGS : (turn + 1) * TRAININGS]
        ]
        examined = [
            ScoredImages(table, tuple(data.ids[index] for index in held_out), groups)
            for views in counts
            for table in views
        ]
        scored = CandidateScores.of(examined, MASKED, data.classes.ignore)
        shape = (TRAININGS, len(VIEWS))
        scores.append(scored.mious.reshape(shape))
        left_out.append(np.stack([s.miou for s in scored.left_out]).reshape(*shape, -1))
    table = np.stack(scores)[:, :, 0]  # (round, training), without flips at test time
    by_round = table @ signs
    values = by_round.mean(axis=0)
    fitted = table.mean(axis=1, keepdims=True) + values @ (signs.T * TRAININGS / 4)
    freedom = table.size - rounds - len(values)
    spread = float(((table - fitted) ** 2).sum()) / freedom
    result = [
        _effect(
            name,
            float(value),
            4 * spread / table.size,
            freedom,
            [views[:, 0].T @ signs[:, index] for views in left_out],
        )
        for index, (name, value) in enumerate(zip(config.changes, values, strict=True))
    ]
    gains = np.stack(scores)[:, :, 1] - table
    result.append(
        _effect(
            "flips at test time",
            float(gains.mean()),
            float(gains.var(ddof=1)) / gains.size,
            gains.size - 1,
            [(views[:, 1] - views[:, 0]).mean(axis=0) for views in left_out],
        )
    )
    return result


def _effect(
    name: str, value: float, by_trainings: float, freedom: float, left_out: list[np.ndarray]
) -> dict[str, Any]:
    """Return an effect with its interval.

    Args:
        name: of the change.
        value: its effect.
        by_trainings: variance over trainings.
        freedom: degrees of freedom of that.
        left_out: of each round, the effect without each group of its images.
    """
    parts = [(by_trainings, freedom)]
    for without in left_out:
        squares = (without - without.mean()) ** 2
        share = (len(without) - 1) / len(without) / len(left_out) ** 2
        parts.append(
            (share * float(squares.sum()), float(effective_freedom(squares[np.newaxis])[0]))
        )
    variance = sum(part for part, _ in parts)
    whole = variance**2 / sum(part**2 / free for part, free in parts)
    half = float(np.sqrt(variance)) * student_quantile(whole, LEVEL)
    return {
        "change": name,
        "effect": value,
        "low": value - half,
        "high": value + half,
        "error_by_trainings": float(np.sqrt(by_trainings)),
        "error_by_images": float(np.sqrt(variance - by_trainings)),
    }


@click.command(help=__doc__.partition("\n")[0])
@click.option("--run", "path", type=click.Path(path_type=Path), required=True)
@click.option("--experiment", type=click.Path(path_type=Path), default=HERE / "ablations.yaml")
@click.option(
    "--rounds", type=click.IntRange(1), default=1, show_default=True, help="Of 16 trainings."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True)
@json_option
def main(path: Path, experiment: Path, rounds: int, workers: int, as_json: bool) -> None:
    """Train what is missing, and print the effects."""
    try:
        run, config = Run(path), read_ablations(experiment)
        log = partial(click.echo, err=True)
        with run_lock(run.path):
            prepare(run, config, log)
            missing = [each for each in trainings(run, config, rounds) if not each.out.is_file()]
            for done, error in run_jobs(missing, ["cpu"], workers=workers):
                log(f"{done.member.name}: {error or 'trained'}")
            rows = effects(run, config, rounds)
    except EnsError as error:
        raise click.ClickException(str(error)) from None
    text = "\n".join(
        f"| {row['change']} | {row['effect']:+.3f} | {row['low']:+.3f} to {row['high']:+.3f} |"
        for row in rows
    )
    print_result(f"| change | mIoU | 95 % interval |\n|---|---|---|\n{text}", rows, as_json=as_json)


if __name__ == "__main__":
    main()
