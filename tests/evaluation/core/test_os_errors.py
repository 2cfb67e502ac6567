import errno

import pytest

from evaluation.core.files import partial_name
from evaluation.core.os_errors import HINTS, describe


@pytest.mark.parametrize("number", HINTS, ids=errno.errorcode.get)
def test_a_fault_of_the_machine_names_the_file_and_what_to_do(number):
    message = describe(OSError(number, "whatever", "maps.npy"))
    assert message is not None
    assert message.startswith("maps.npy: ")
    assert HINTS[number] in message
    assert message.endswith("the same command goes on from here")


def test_a_fault_without_a_file_name_is_described_too():
    assert str(describe(OSError(errno.ENOSPC, "full"))).startswith("a file: No space left on")


def test_a_removed_folder_is_distinguished_from_a_missing_file(tmp_path):
    gone = FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "removed" / "maps.npy"))
    assert "its folder was removed meanwhile" in str(describe(gone))
    partial = FileNotFoundError(errno.ENOENT, "gone", str(partial_name(tmp_path / "maps.npy")))
    assert "its folder was removed meanwhile" in str(describe(partial))
    assert describe(FileNotFoundError(errno.ENOENT, "gone", str(tmp_path / "maps.npy"))) is None


def test_a_bug_is_not_a_fault_of_the_machine():
    assert describe(OSError("no number")) is None
    assert describe(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None
