"""Entries from outside are found by name like ours."""

import pytest

from evaluation.core import plugins
from evaluation.core.errors import BadSpec
from evaluation.core.specs import Table

MODULE = """
ENS_ENTRIES = {"fruit": {"pear": "more_fruit:pear", "apple": "more_fruit:pear"}}

def pear(*, weight: int = 1):
    return weight
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    (tmp_path / "more_fruit.py").write_text(MODULE)
    (tmp_path / "no_fruit.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    return Table("fruit", {"apple": "builtins:dict"})


def test_a_named_module_adds_its_entries(table):
    assert sorted(table) == ["apple"]
    plugins.load_plugins(["more_fruit"])
    assert sorted(table) == ["apple", "pear"]
    assert table.build("pear(weight=3)") == 3


def test_a_plugin_cannot_replace_our_entry(table):
    plugins.load_plugins(["more_fruit"])
    assert table["apple"] == "builtins:dict"


def test_worker_processes_find_plugins_through_the_environment(table, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "more_fruit")
    assert "pear" in table


def test_an_installed_package_adds_its_entry_points(table, tmp_path):
    info = tmp_path / "fruit_shop-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fruit-shop\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ens.fruit]\nplum = more_fruit:pear\n")
    assert table.build("plum(weight=2)") == 2


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("nowhere_at_all", "plugin 'nowhere_at_all' cannot be imported"),
        ("no_fruit", "plugin 'no_fruit' has no entries; write ENS_ENTRIES = "),
    ],
)
def test_a_module_without_entries_is_refused(table, module, words):
    with pytest.raises(BadSpec) as refusal:
        plugins.load_plugins([module])
    assert words in str(refusal.value)
