"""One writer at a time."""

import pytest

from evaluation.ground.errors import BadRun
from evaluation.ground.locks import writing


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    run = tmp_path / "run"
    with writing(run), pytest.raises(BadRun, match="is being written by another ens"):
        writing(run).__enter__()
    with writing(run):
        pass


def test_a_writer_that_fails_lets_go(tmp_path):
    def fail():
        with writing(tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with writing(tmp_path):
        pass
