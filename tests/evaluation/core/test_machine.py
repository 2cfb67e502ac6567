import errno

import pytest

from evaluation.core.files import partial_name
from evaluation.core.os_errors import FAULTS, describe


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
def test_a_fault_of_the_machine_names_the_file_and_what_to_do(number):
    said = describe(OSError(number, "whatever", "maps.npy"))
    assert said is not None
    assert said.startswith("maps.npy: ")
    assert FAULTS[number] in said
    assert said.endswith("the same command goes on from here")


def test_a_fault_that_names_no_file_is_told_too():
    assert str(describe(OSError(errno.ENOSPC, "full"))).startswith("a file: No space left on")


def test_a_folder_removed_meanwhile_is_told_apart_from_a_file_of_ours_that_is_missing(tmp_path):
    gone = FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "removed" / "maps.npy"))
    assert "its folder was removed meanwhile" in str(describe(gone))
    partial = FileNotFoundError(errno.ENOENT, "gone", str(partial_name(tmp_path / "maps.npy")))
    assert "its folder was removed meanwhile" in str(describe(partial))
    assert describe(FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "maps.npy"))) is None


def test_what_the_program_did_wrong_is_no_fault_of_the_machine():
    assert describe(OSError("no number")) is None
    assert describe(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None
