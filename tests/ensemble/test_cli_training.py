"""Which images `ens train-members` learns from."""

import numpy as np
import pytest

from ensemble.cli import run_command
from members.data.sample import draw_sample

TINY = "unet(width=2, depth=1)"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return draw_sample(images=80, test=9, validation=40, size=(16, 24)).save(folder)


@pytest.fixture
def training(sample, tmp_path):
    data, validation = map(str, sample)
    folder = tmp_path / "run"
    arguments = ["train-members", "--data", data, "--validation", validation, "--run", folder]
    arguments += ["--folds", "2", "--workers", "1", "--epochs", "1", "--member", TINY]

    def train(*more):
        return run_command([str(argument) for argument in (*arguments, *more)]), folder

    return train


def test_what_a_drop_list_names_is_in_no_fold(training, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("train-00003  # blurred\ntrain-00010\n")
    code, folder = training("--drop", tmp_path / "ids.txt", "--train-share", "0.5")
    assert code == 0
    assert "drop list: 2 of 80 training images dropped" in capsys.readouterr().err
    index = (folder / "data" / "oof" / "index.csv").read_text()
    assert "train-00004" in index
    assert "train-00003" not in index
    assert "train_share: 0.5" in (folder / "experiment.yaml").read_text()


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ("train-00003\nnobody\n", "names 1 unknown ids (first: 'nobody'); expected ids of"),
        (None, "the last image of class 'big rock' would be dropped"),
    ],
)
def test_a_bad_drop_list_is_refused_before_training(training, sample, tmp_path, capsys, ids, words):
    with np.load(sample[0]) as archive:
        rocky = np.flatnonzero((archive["training_set"][:, 1] == 4).any(axis=(1, 2)))
    text = ids or "\n".join(f"train-{place:05d}" for place in rocky)
    (tmp_path / "ids.txt").write_text(text)
    code, folder = training("--drop", tmp_path / "ids.txt")
    assert code == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
    assert not (folder / "members").exists()


def test_a_share_of_nothing_is_refused(training, capsys):
    code, _ = training("--train-share", "0")
    assert code == 2
    assert "--train-share" in capsys.readouterr().err


@pytest.mark.usefixtures("drawn")
def test_the_curves_lie_beside_the_weights(training):
    code, folder = training()
    assert code == 0
    fold = folder / "members" / "unet" / "fold-0"
    assert (fold / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {"weights.safetensors", "history.csv", "curves.png"} <= {p.name for p in fold.iterdir()}
    head = (fold / "history.csv").read_text().splitlines()[0].split(",")
    assert head == (
        [
            "epoch",
            "learning_rate",
            *(f"training_{name}" for name in ("loss", "accuracy", "miou")),
            *(f"holdout_{name}" for name in ("loss", "accuracy", "miou")),
            "seconds",
        ]
    )
