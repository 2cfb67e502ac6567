"""The tiny run that faults befall, stage by stage."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from members.data.sample import draw_sample
from tests.faults.children import Child, Fault, run_child
from tests.faults.trees import contents

EXPERIMENT = """
data: training.npz
validation: validation.npz
folds: 2
defaults: {epochs: 1, architecture: 'unet(width=2, depth=1)'}
members: {one: {}}
fusions: {stacked: stacking}
chains: {tuned: 'class_bias|remove_small(min_area_px=4)'}
"""
CANDIDATE = "stacked_tuned"
STAGES = (
    *("train", "predict", "fuse", "postprocess", "score", "submit", "freeze", "freeze again"),
)

SHORT = 1
"""Points of a stage and way of failing that are tried in every run of the tests."""


def pytest_collection_modifyitems(config, items):
    """Leave the long ones to `make faults`."""
    if "faults" in config.option.markexpr:
        return
    left = [item for item in items if item.get_closest_marker("faults")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


LIMITED = ("half", "full")


@dataclass(frozen=True)
class Tiny:
    """An experiment that is done in seconds.

    Args:
        folder: of data, experiment file and all results.
    """

    folder: Path

    @property
    def work(self) -> Path:
        """Where all results go: the run, submissions, the package."""
        return self.folder / "work"

    @property
    def run(self) -> Path:
        """The run."""
        return self.work / "run"

    def stages(self) -> dict[str, list[list[str | Path]]]:
        """Return the commands of each stage, in the order of work."""
        here: list[str | Path] = ["--run", self.run]
        handed = [*here, "--candidate", CANDIDATE]
        training, validation = self.folder / "training.npz", self.folder / "validation.npz"
        data: list[str | Path] = ["--data", training, "--validation", validation]
        tiny = ["--folds", "2", "--epochs", "1", "--member", "one=unet(width=2, depth=1)"]
        runs, package = self.work / "runs.csv", self.work / "package"
        return {
            "train": [["train-members", *data, *tiny, "--workers", "1", *here]],
            "predict": [["predict", "--data", validation, "--split", "new", *here]],
            "fuse": [["fuse", "--strategy", "stacking", "--name", "stacked", *here]],
            "postprocess": [
                [
                    *("postprocess", "--fusion", "stacked", "--name", CANDIDATE),
                    *("--chain", "class_bias|remove_small(min_area_px=4)", *here),
                ]
            ],
            "score": [["score", *here]],
            "submit": [["submit", "--form", "runs", "--out", runs, *handed]],
            "freeze": [["freeze", "--out", package, *handed]],
            "freeze again": [["freeze", "--out", package, *handed]],
        }

    def everything(self) -> list[list[str | Path]]:
        """Return the commands from training to handing over."""
        file, stages = self.folder / "tiny.yaml", self.stages()
        here: list[str | Path] = ["--run", self.run, "--workers", "1"]
        first = [["train-members", "--experiment", file, *here], *stages["predict"]]
        return [*first, ["run", file, *here], *stages["submit"], *stages["freeze"]]

    def start(self, commands: list[list[str | Path]], fault: Fault | None = None) -> Child:
        """Start commands in a process of their own."""
        return Child(commands, self.work, fault)

    def do(self, commands: list[list[str | Path]], fault: Fault | None = None):
        """Run commands in a process of their own."""
        return run_child(commands, self.work, fault)

    def holds(self) -> dict[str, str | bytes]:
        """Return all results."""
        return contents(self.work)

    def empty(self, like: Path | None = None) -> None:
        """Take all results away, or give those of another folder instead."""
        shutil.rmtree(self.work, ignore_errors=True)
        if like is None:
            self.work.mkdir()
        else:
            shutil.copytree(like, self.work)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    sample = draw_sample(images=80, test=9, validation=40, size=(16, 24))
    for name, file in zip(("training", "validation"), sample.save(folder / "drawn"), strict=True):
        file.rename(folder / f"{name}.npz")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    return Tiny(folder)


@pytest.fixture
def points_of(request):
    """Give the points of a stage that matter or, in every run of the tests, some: always the same.

    Where what strikes is a limit on the size of files, it strikes at the next byte that is written:
    points that no byte follows before the next are the same as the next.
    """

    def chosen(points, way):
        matter = [at for at, grows in enumerate(points) if grows or way not in LIMITED]
        if "faults" in request.config.option.markexpr:
            return matter
        few = min(len(matter), SHORT)
        return sorted(random.Random(f"{len(points)} {way}").sample(matter, few))

    return chosen


@pytest.fixture(scope="session")
def stages(tiny):
    """The results before each stage and after the last, the steps it takes, and what they hold."""
    tiny.empty()
    kept, points, expected = {}, {}, {}
    for name, commands in [*tiny.stages().items(), ("end", [])]:
        kept[name], expected[name] = tiny.folder / f"before-{name}", tiny.holds()
        shutil.copytree(tiny.work, kept[name])
        ended = tiny.do(commands, Fault("count"))
        assert ended.code == 0, ended.said
        points[name] = ended.points
    return kept, points, expected
