"""The examples in docstrings run, and what users choose by name or call from Python has one."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import ensemble
from ensemble.strategies import STRATEGIES
from postproc.steps import STEPS

ROOT = Path(__file__).parents[1]
PACKAGES = ("evaluation", "members", "postproc", "ensemble")
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules_with_examples():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("module", list(modules_with_examples()))
def test_examples_in_docstrings_give_what_they_print(module):
    result = doctest.testmod(import_module(module), optionflags=FLAGS)
    assert result.attempted > 0
    assert result.failed == 0


def test_a_wrong_example_is_noticed():
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(example, out=lambda text: None)
    assert runner.summarize(verbose=False).failed == 1


@pytest.mark.parametrize("kind", ["strategy", "step"])
def test_every_strategy_and_step_has_an_example(kind):
    table = {"strategy": STRATEGIES, "step": STEPS}[kind]
    without = []
    for name, reference in table.items():
        module, _, attribute = reference.partition(":")
        if module.split(".")[0] in PACKAGES:
            factory = getattr(import_module(module), attribute)
            if ">>> " not in (factory.__doc__ or ""):
                without.append(name)
    assert not without


@pytest.mark.parametrize("name", ["fuse", "postprocess", "score", "compare", "audit", "open_run"])
def test_every_function_of_the_front_door_has_an_example(name):
    assert ">>> " in (getattr(ensemble, name).__doc__ or "")
