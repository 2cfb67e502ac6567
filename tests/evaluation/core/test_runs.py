"""Which run is meant where none is named."""

import os

import pytest

from evaluation.core.errors import BadRun
from evaluation.core.run_folder import newest_run


def test_the_run_whose_data_changed_last_is_meant(tmp_path):
    for seconds, name in ((3, "first"), (9, "last"), (6, "middle")):
        (tmp_path / name / "data").mkdir(parents=True)
        os.utime(tmp_path / name / "data", (seconds, seconds))
    (tmp_path / "no run").mkdir()
    assert newest_run(tmp_path).path == tmp_path / "last"


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_without_one_it_is_said_how_to_start(tmp_path, name):
    with pytest.raises(BadRun, match=r"no run under .*start with `ens train-members`"):
        newest_run(tmp_path / name)
