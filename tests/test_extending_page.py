"""The code in `docs/extending.md` does what the page says."""

import doctest
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
def load_from_page(monkeypatch):
    """Import a file of the page as a module."""

    def load(path):
        module = ModuleType(path.replace("/", "_"))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(FILES[path], f"{path}.py", "exec"), module.__dict__)
        return module

    return load


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    scores = rng.random((3, 2, 4, 5, 6), dtype=np.float32)
    return scores / scores.sum(axis=2, keepdims=True)


def test_the_strategy_is_halfway_between_the_extremes(load_from_page, maps):
    fused = load_from_page("ensemble/strategies/midrange").midrange()(maps)
    between = maps.max(axis=0) + maps.min(axis=0)
    np.testing.assert_allclose(fused, between / between.sum(axis=1, keepdims=True), rtol=1e-5)


def test_the_step_keeps_the_order_of_the_classes(load_from_page, maps):
    sharpened = load_from_page("postproc/steps/sharpen").sharpen(power=3).apply(maps[0], None)
    np.testing.assert_array_equal(sharpened.argsort(axis=1), maps[0].argsort(axis=1))
    assert (sharpened.max(axis=1) >= maps[0].max(axis=1)).all()


def test_the_network_gives_logits_of_the_images_size(load_from_page):
    network = load_from_page("members/architectures/plain").plain(1, 4, width=2)
    assert network(torch.zeros(2, 1, 5, 7)).shape == (2, 4, 5, 7)
    assert network.stride == 1


@pytest.mark.parametrize("path", FILES)
def test_examples_of_the_page_run(load_from_page, path):
    assert doctest.testmod(load_from_page(path)).failed == 0


def test_every_table_line_of_the_page_names_a_file_of_the_page():
    entries = re.findall(r'`"\w+": "([\w.]+):\w+",`', PAGE)
    assert {name.replace(".", "/") for name in entries} == set(FILES)
