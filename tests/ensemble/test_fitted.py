import dataclasses
import json
from dataclasses import dataclass

import numpy as np
import pytest

from ensemble.fitted_json import (
    ARRAYS,
    STATE,
    load_fitted,
    save_fitted,
)
from ensemble.fusion import LearnedFusion, TrainingBlock
from ensemble.strategies import STRATEGIES
from evaluation.core.errors import BadRun

CONTEXT = {
    "classes": 3,
    "ignore": None,
    "floor": 0.1 + 0.2,
    "kinds": ("probabilities", "one_vs_rest"),
    "seed": 7,
}

SAVED = "stacking(l2=0.1, objective=log_loss)"


def drawn():
    rng = np.random.default_rng(0)
    maps = np.moveaxis(rng.dirichlet(np.ones(3), size=(2, 4, 6, 6)), -1, 2).astype(np.float32)
    return maps, rng.integers(0, 3, (4, 6, 6))


def fitted(name):
    strategy = STRATEGIES.build(name, **CONTEXT)
    return (
        strategy.fit([TrainingBlock(*drawn())]) if isinstance(strategy, LearnedFusion) else strategy
    )


def values(fusion):
    """Yield the fields of a fusion, and of those that it is made of."""
    for field in dataclasses.fields(fusion):
        value = getattr(fusion, field.name)
        yield from values(value) if dataclasses.is_dataclass(value) else [value]


@pytest.fixture
def saved(tmp_path):
    save_fitted(tmp_path / "fitted", SAVED, fitted(SAVED), CONTEXT)
    return tmp_path / "fitted"


@pytest.mark.parametrize("name", sorted(STRATEGIES))
class TestEveryStrategy:
    """What is read back is what was saved, for any strategy."""

    def test_comes_back_exactly(self, name, tmp_path):
        fusion = fitted(name)
        save_fitted(tmp_path / "fitted", name, fusion, CONTEXT)
        back = load_fitted(tmp_path / "fitted")
        assert (back.strategy, back.context) == (name, CONTEXT)
        assert type(back.fusion) is type(fusion)
        for one, other in zip(values(fusion), values(back.fusion), strict=True):
            assert type(one) is type(other)
            np.testing.assert_array_equal(one, other, strict=isinstance(one, np.ndarray))

    def test_fuses_as_before(self, name, tmp_path):
        fusion, (maps, _) = fitted(name), drawn()
        save_fitted(tmp_path / "fitted", name, fusion, CONTEXT)
        np.testing.assert_array_equal(load_fitted(tmp_path / "fitted").fusion(maps), fusion(maps))

    def test_depends_on_nothing_but_what_its_docstring_allows(self, name):
        for value in values(fitted(name)):
            parts = value if isinstance(value, tuple) else (value,)
            assert isinstance(value, np.ndarray) or {type(p) for p in parts} <= {int, float, str}


def test_saving_again_replaces_what_was_there(saved):
    save_fitted(saved, "mean", fitted("mean"), CONTEXT)
    assert load_fitted(saved).strategy == "mean"
    assert [path.name for path in saved.parent.iterdir()] == ["fitted"]


def test_a_failed_save_leaves_what_was_there(saved):
    @dataclass(frozen=True)
    class Strange:
        thing: object

        def __call__(self, maps):
            return maps[0]

    with pytest.raises(TypeError):
        save_fitted(saved, "strange", Strange(object()), CONTEXT)
    assert load_fitted(saved).strategy == SAVED
    assert [path.name for path in saved.parent.iterdir()] == ["fitted"]


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(BadRun, match="none contains no fitted fusion; fuse with a strategy first"):
        load_fitted(tmp_path / "none")


def test_files_with_former_names_of_fields_are_read(saved):
    expected = load_fitted(saved).fusion
    document = json.loads((saved / STATE).read_text())
    document["arrays"] = ["beside" if n == "extra_weights" else n for n in document["arrays"]]
    (saved / STATE).write_text(json.dumps(document))
    with np.load(saved / ARRAYS) as arrays:
        former = {"beside" if n == "extra_weights" else n: arrays[n] for n in arrays}
    np.savez(saved / ARRAYS, **former)
    np.testing.assert_array_equal(load_fitted(saved).fusion.extra_weights, expected.extra_weights)


def cut_short(folder):
    whole = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(whole[: len(whole) // 2])


def one_bit_changed(folder):
    whole = bytearray((folder / ARRAYS).read_bytes())
    whole[whole.index(b"\x93NUMPY") + 140] ^= 1
    (folder / ARRAYS).write_bytes(bytes(whole))


def pickled(folder):
    np.savez(folder / ARRAYS, extra_weights=np.array([{}]), bias=np.zeros(3), scored=np.arange(3))


def changed(**entries):
    def change(folder):
        document = json.loads((folder / STATE).read_text()) | entries
        (folder / STATE).write_text(json.dumps(document))

    return change


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(cut_short, "", id="arrays cut short"),
        pytest.param(one_bit_changed, "CRC", id="one bit changed"),
        pytest.param(lambda f: (f / ARRAYS).unlink(), "is missing", id="arrays missing"),
        pytest.param(pickled, "never unpickled", id="a pickle"),
        pytest.param(lambda f: (f / STATE).write_text("{"), "cannot be read as JSON", id="no JSON"),
        pytest.param(changed(fusion="os.system"), "unknown fusion 'os.system'", id="another class"),
        pytest.param(changed(fields={"depth": 2}), "argument", id="another field"),
        pytest.param(changed(arrays=["bias"]), "argument", id="a field less"),
    ],
)
def test_damage_is_said_in_one_line(saved, damage, words):
    damage(saved)
    with pytest.raises(BadRun) as caught:
        load_fitted(saved)
    assert str(caught.value).startswith(f"{saved} cannot be read (")
    assert str(caught.value).endswith("); remove it and fuse again")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
