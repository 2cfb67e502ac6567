"""Provenance: whole, current, stale."""

import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.core import provenance
from evaluation.core.errors import BadRun
from evaluation.core.provenance import (
    RECORD,
    cached_digest,
    digest,
    digest_of,
    identity,
    is_current,
    is_intact,
    record,
    verify_outputs,
)

law = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
CONFIG = {"strategy": "stacking(l2=0.1)", "seed": 0}
INPUTS = {"unet": "aa", "aspp": "bb"}
words = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=4)


class TestLaws:
    @law
    @given(document=words)
    def test_a_digest_does_not_depend_on_the_order_of_the_keys(self, document):
        turned = dict(reversed(document.items()))
        assert digest_of(document) == digest_of(turned)

    @law
    @given(config=words, inputs=st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
    def test_a_result_is_current_only_for_its_config_and_inputs(self, tmp_path, config, inputs):
        record(tmp_path, config=config, inputs=inputs)
        assert is_current(tmp_path, config=config, inputs=inputs)
        assert not is_current(tmp_path, config=config | {"more": 1}, inputs=inputs)
        assert not is_current(tmp_path, config=config, inputs=inputs | {"more": "x"})


def test_a_folder_without_its_record_is_not_complete(tmp_path):
    assert identity(tmp_path) is None
    assert not is_current(tmp_path, config=CONFIG, inputs=INPUTS)


def test_tuples_go_through_json_and_stay_current(tmp_path):
    record(tmp_path, config={"size": (64, 128)}, inputs={})
    assert is_current(tmp_path, config={"size": (64, 128)}, inputs={})


class TestIdentity:
    def test_time_and_machine_are_not_part_of_the_identity(self, tmp_path, monkeypatch):
        record(tmp_path / "a", config=CONFIG, inputs=INPUTS)
        monkeypatch.setattr(time, "strftime", lambda *_: "another day")
        monkeypatch.setattr("sys.argv", ["another", "command"])
        record(tmp_path / "b", config=CONFIG, inputs=INPUTS)
        assert identity(tmp_path / "a") == identity(tmp_path / "b")

    @pytest.mark.parametrize(
        "change",
        [
            {"config": CONFIG | {"seed": 1}},
            {"inputs": INPUTS | {"unet": "cc"}},
            {"outputs": {"weights": "dd"}},
        ],
    )
    def test_config_inputs_and_outputs_are_part_of_the_identity(self, tmp_path, change):
        record(tmp_path / "a", config=CONFIG, inputs=INPUTS)
        record(tmp_path / "b", **({"config": CONFIG, "inputs": INPUTS} | change))
        assert identity(tmp_path / "a") != identity(tmp_path / "b")


def test_each_part_of_a_folder_is_current_by_itself(tmp_path):
    record(tmp_path, config=CONFIG, inputs=INPUTS, part="oof")
    assert is_current(tmp_path, config=CONFIG, inputs=INPUTS, part="oof")
    assert not is_current(tmp_path, config=CONFIG, inputs=INPUTS, part="validation")
    assert not is_current(tmp_path, config=CONFIG, inputs=INPUTS)


def test_the_record_says_how_the_result_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ens", "fuse"])
    record(tmp_path, config=CONFIG, inputs=INPUTS, outputs={"weights": "dd"})
    document = json.loads((tmp_path / RECORD).read_text())
    assert document["asked"] == CONFIG
    assert document["inputs"] == INPUTS
    assert document["outputs"] == {"weights": "dd"}
    assert document["command"] == "ens fuse"
    assert {"python", "numpy"} <= document["versions"].keys()
    assert document["made"].endswith("Z")


def test_the_record_has_no_version_of_what_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    monkeypatch.setattr(provenance, "_versions", provenance._versions.__wrapped__)
    record(tmp_path, config=CONFIG, inputs=INPUTS)
    assert json.loads((tmp_path / RECORD).read_text())["versions"].keys() == {"python", "numpy"}


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    (tmp_path / "empty").touch()
    # The SHA-256 of nothing, as in FIPS 180's test vectors.
    assert digest(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_an_input_that_early_records_lack_is_not_required(tmp_path):
    today = INPUTS | {"classes": "cc", "folds": "dd"}
    record(tmp_path, config=CONFIG, inputs=INPUTS)
    assert is_current(tmp_path, config=CONFIG, inputs=today)
    record(tmp_path, config=CONFIG, inputs=today)
    assert not is_current(tmp_path, config=CONFIG, inputs=today | {"classes": "other"})


def test_info_is_not_part_of_the_identity(tmp_path):
    record(tmp_path / "a", config=CONFIG, inputs=INPUTS, info={"paths": ["here"]})
    record(tmp_path / "b", config=CONFIG, inputs=INPUTS)
    assert identity(tmp_path / "a") == identity(tmp_path / "b")


def test_a_folder_is_intact_while_its_outputs_are_unchanged(tmp_path):
    assert not is_intact(tmp_path)
    (tmp_path / "weights").write_bytes(b"one")
    record(
        tmp_path, config=CONFIG, inputs=INPUTS, outputs={"weights": digest(tmp_path / "weights")}
    )
    assert is_intact(tmp_path)
    (tmp_path / "weights").write_bytes(b"two")
    assert not is_intact(tmp_path)
    with pytest.raises(BadRun, match=r"weights is not what was written.*; remove .* and run"):
        verify_outputs(tmp_path)
    (tmp_path / "weights").unlink()
    assert not is_intact(tmp_path)
    with pytest.raises(BadRun, match=r"weights is missing; remove .* and run again"):
        verify_outputs(tmp_path)


class TestAKnownDigest:
    def test_a_digest_is_computed_once_for_a_settled_file(self, tmp_path, monkeypatch):
        (tmp_path / "f").write_bytes(b"one")
        monkeypatch.setattr(time, "time_ns", lambda: (tmp_path / "f").stat().st_mtime_ns + 10**10)
        first = cached_digest(tmp_path / "f")
        monkeypatch.setattr("evaluation.core.provenance.digest", None)
        assert cached_digest(tmp_path / "f") == first == digest(tmp_path / "f")

    def test_a_digest_is_not_cached_for_a_file_that_has_just_changed(self, tmp_path):
        (tmp_path / "f").write_bytes(b"one")
        first, stat = cached_digest(tmp_path / "f"), (tmp_path / "f").stat()
        (tmp_path / "f").write_bytes(b"two")
        os.utime(tmp_path / "f", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert cached_digest(tmp_path / "f") != first
