"""What `docs/extending.md` tells a newcomer to write does what it says."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/]+)\.py`:\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


@pytest.fixture
def written(monkeypatch):
    """The files of the page as modules."""

    def module(path):
        made = ModuleType(path.replace("/", "_"))
        monkeypatch.setitem(sys.modules, made.__name__, made)
        exec(compile(FILES[path], f"{path}.py", "exec"), made.__dict__)
        return made

    return module


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    drawn = rng.random((3, 2, 4, 5, 6), dtype=np.float32)
    return drawn / drawn.sum(axis=2, keepdims=True)


def test_the_strategy_is_halfway_between_the_extremes(written, maps):
    fused = written("ensemble/strategies/midrange").midrange()(maps)
    between = maps.max(axis=0) + maps.min(axis=0)
    np.testing.assert_allclose(fused, between / between.sum(axis=1, keepdims=True), rtol=1e-5)


def test_the_step_keeps_the_order_of_the_classes(written, maps):
    sharpened = written("postproc/steps/sharpen").sharpen(power=3).apply(maps[0], None)
    np.testing.assert_array_equal(sharpened.argsort(axis=1), maps[0].argsort(axis=1))
    assert (sharpened.max(axis=1) >= maps[0].max(axis=1)).all()


def test_the_network_gives_logits_of_the_images_size(written):
    network = written("members/architectures/plain").plain(1, 4, width=2)
    assert network(torch.zeros(2, 1, 5, 7)).shape == (2, 4, 5, 7)
    assert network.stride == 1


def test_every_table_line_of_the_page_names_a_file_of_the_page():
    named = re.findall(r'`"\w+": "([\w.]+):\w+",`', PAGE)
    assert {name.replace(".", "/") for name in named} == set(FILES)
