"""`ens data import-ai4mars`: a tree becomes a file that the other commands read."""

import json

import numpy as np
import pytest
from PIL import Image

from ensemble.cli import run_command
from members.data.load_dataset import load_dataset

NAME = "NLB_471625303EDR_F0442336NCAM00353M1"


@pytest.fixture
def tree(tmp_path):
    shades = np.tile(np.arange(16, dtype=np.uint8) * 8, (16, 1))
    for folder, suffix, array in (
        ("images/edr", "JPG", shades),
        ("labels/train", "png", 0 * shades),
    ):
        file = tmp_path / "msl" / folder / f"{NAME}.{suffix}"
        file.parent.mkdir(parents=True)
        Image.fromarray(array).save(file)
    return tmp_path


def words(tree, **changes):
    options = {"scale": "1/2", "tile": "4x2", "out": tree / "out.npz"} | changes
    return [
        *("data", "import-ai4mars", str(tree), "--json"),
        *(f"--{key}={value}" for key, value in options.items()),
    ]


def test_reports_the_number_of_tiles_in_the_file(tree, capsys):
    assert run_command(words(tree)) == 0
    assert json.loads(capsys.readouterr().out)["tiles"] == 8
    tiles = load_dataset(tree / "out.npz")["training"]
    assert tiles.images.shape == (8, 1, 4, 2)
    assert (tiles.target() == 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": "4"}, "size '4'; expected ROWSxCOLS, such as 64x128"),
        ({"tile": "4x0"}, "size '4x0'; expected ROWSxCOLS"),
        ({"tile": "²x4"}, "size '²x4'; expected ROWSxCOLS"),
        ({"scale": "half"}, "scale 'half'; expected a fraction such as 1/4"),
        ({"scale": "1/0"}, "scale '1/0'; expected a fraction"),
    ],
)
def test_unreadable_size_is_refused(tree, refusal, changes, message):
    assert message in refusal(*words(tree, **changes))
    assert not (tree / "out.npz").exists()


def test_tree_without_labels_is_refused(tree, refusal):
    (tree / "msl/labels/train" / f"{NAME}.png").unlink()
    assert "holds no .png file; expected labels of images" in refusal(*words(tree))
