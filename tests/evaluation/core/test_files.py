"""Atomic files, arrays that are not trusted, and links out of a folder."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.core.array_headers import DIRECTORY_BYTES
from evaluation.core.errors import BadData
from evaluation.core.files import (
    array_names,
    atomic_file,
    atomic_folder,
    check_file_names,
    check_no_external_links,
    open_array,
    read_json,
    remove_folder,
    remove_stale_temps,
    write_json,
)
from evaluation.core.provenance import record

law = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
arrays = hnp.arrays(
    st.sampled_from([np.uint8, np.int64, np.float32]), hnp.array_shapes(max_dims=3, max_side=4)
)


class TestLinks:
    @pytest.mark.parametrize("target", ["elsewhere/a.txt", "elsewhere/new.txt", "nowhere/b.txt"])
    @pytest.mark.parametrize("steps", [1, 2])
    def test_what_a_link_leads_to_is_replaced_and_the_link_stays(self, tmp_path, target, steps):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "a.txt").write_text("old")
        links = [tmp_path / f"link{step}" for step in range(steps)]
        for link, to in zip(links, [*links[1:], tmp_path / target], strict=True):
            link.symlink_to(to.relative_to(tmp_path))
        with atomic_file(links[0]) as partial:
            partial.write_text("new")
        assert all(link.is_symlink() for link in links)
        assert (tmp_path / target).read_text() == "new"
        assert not list(tmp_path.rglob(".*"))

    def test_the_folder_that_a_link_leads_to_is_replaced_and_the_link_stays(self, tmp_path):
        (tmp_path / "real" / "old").mkdir(parents=True)
        (tmp_path / "link").symlink_to("real")
        with atomic_folder(tmp_path / "link") as partial:
            (partial / "new").mkdir()
        assert (tmp_path / "link").readlink() == Path("real")
        assert [entry.name for entry in (tmp_path / "real").iterdir()] == ["new"]
        remove_folder(tmp_path / "link")
        assert [entry.name for entry in tmp_path.iterdir()] == ["link"]

    @pytest.mark.parametrize("write", [atomic_file, atomic_folder])
    def test_a_link_to_itself_a_device_and_a_pipe_are_refused(self, tmp_path, write):
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "null").symlink_to("/dev/null")
        os.mkfifo(tmp_path / "pipe")
        for name in ("loop", "null", "pipe"):
            with (
                pytest.raises(BadData, match=r"leads to itself|a device or a pipe"),
                write(tmp_path / name),
            ):
                pass
        assert len(list(tmp_path.iterdir())) == 3


class TestLaws:
    @law
    @given(document=documents)
    def test_a_document_reads_back(self, tmp_path, document):
        write_json(tmp_path / "a.json", document)
        assert read_json(tmp_path / "a.json") == document

    @law
    @given(array=arrays)
    def test_an_array_opens_as_it_was_saved_from_either_kind_of_file(self, tmp_path, array):
        np.save(tmp_path / "a.npy", array)
        np.savez_compressed(tmp_path / "a.npz", one=array, two=array + 1)
        for opened in (open_array(tmp_path / "a.npy"), open_array(tmp_path / "a.npz", "one")):
            np.testing.assert_array_equal(opened, array)
            assert opened.dtype == array.dtype

    @law
    @given(array=arrays, kept=st.floats(0, 0.99))
    def test_a_truncated_array_is_refused_and_named(self, tmp_path, array, kept):
        for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
            path = tmp_path / name
            save(path, array)
            whole = path.read_bytes()
            path.write_bytes(whole[: int(kept * len(whole))])
            with pytest.raises(BadData, match=name):
                open_array(path)


class TestWhole:
    def test_a_file_gets_its_name_at_the_end(self, tmp_path):
        path = tmp_path / "deep" / "a.txt"
        with atomic_file(path) as partial:
            partial.write_text("new")
            assert not path.exists()
        assert path.read_text() == "new"

    def test_a_failure_leaves_the_old_file_and_no_other(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")

        def write():
            with atomic_file(path) as partial:
                partial.write_text("half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            write()
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
        assert path.read_text() == "old"

    def test_the_partial_file_keeps_the_suffix_for_numpy(self, tmp_path):
        with atomic_file(tmp_path / "a.npz") as partial:
            np.savez(partial, x=np.arange(3))
        np.testing.assert_array_equal(open_array(tmp_path / "a.npz"), np.arange(3))

    @pytest.mark.parametrize("before", [True, False])
    def test_a_folder_is_replaced_as_a_whole(self, tmp_path, before):
        path = tmp_path / "result"
        if before:
            path.mkdir()
            (path / "old").touch()
        with atomic_folder(path) as partial:
            (partial / "new").touch()
        assert [p.name for p in path.iterdir()] == ["new"]
        assert [p.name for p in tmp_path.iterdir()] == ["result"]

    def test_a_failure_leaves_the_old_folder_and_no_other(self, tmp_path):
        path = tmp_path / "result"
        path.mkdir()
        (path / "old").touch()

        def write():
            with atomic_folder(path) as partial:
                (partial / "new").touch()
                raise RuntimeError

        with pytest.raises(RuntimeError):
            write()
        assert [p.name for p in path.iterdir()] == ["old"]
        assert [p.name for p in tmp_path.iterdir()] == ["result"]

    def test_the_old_folder_comes_back_if_the_new_one_cannot_get_its_name(
        self, tmp_path, monkeypatch
    ):
        path, rename = tmp_path / "result", Path.rename
        path.mkdir()
        (path / "old").touch()

        def refused(source, target):
            if target == path and (source / "new").exists():
                raise PermissionError("the folder is in use")
            return rename(source, target)

        def write():
            with atomic_folder(path) as partial:
                (partial / "new").touch()

        monkeypatch.setattr(Path, "rename", refused)
        with pytest.raises(PermissionError, match="in use"):
            write()
        assert [p.name for p in path.iterdir()] == ["old"]
        assert [p.name for p in tmp_path.iterdir()] == ["result"]

    @pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])
    def test_what_a_process_of_another_user_is_writing_is_left_alone(
        self, tmp_path, monkeypatch, error
    ):
        def kill(pid, signal):
            raise error

        with atomic_file(tmp_path / "a.txt") as partial:
            partial.touch()
            monkeypatch.setattr(os, "kill", kill)
            remove_stale_temps(tmp_path / "a.txt")
            assert partial.exists() == (error is PermissionError)
            partial.touch()

    def test_nan_is_refused_as_json_and_leaves_the_old_document(self, tmp_path):
        write_json(tmp_path / "a.json", 1)
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", float("nan"))
        assert read_json(tmp_path / "a.json") == 1


class TestRefuses:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                "{'descr': '|u1', 'shape': (3,)}",
                "its header names no descr, fortran_order and shape",
            ),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': (-3,)}", r"its shape is \(-3,\)"),
            ("{'descr': '|u1', 'fortran_order': False, 'shape': 3}", "its shape is 3"),
        ],
    )
    def test_a_header_of_something_else_is_refused(self, tmp_path, text, words):
        header = f"{text}\n".encode()
        (tmp_path / "a.npy").write_bytes(
            b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"abc"
        )
        with pytest.raises(BadData, match=words):
            open_array(tmp_path / "a.npy")

    def test_an_archive_that_claims_a_huge_list_of_contents_is_not_read(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.arange(3))
        written = bytearray((tmp_path / "a.npz").read_bytes() + bytes(DIRECTORY_BYTES + 100))
        end = bytes(written).rindex(b"PK\x05\x06")
        del written[end + 22 :]
        written[0:0] = bytes(DIRECTORY_BYTES + 100)
        end += DIRECTORY_BYTES + 100
        written[end + 12 : end + 16] = (DIRECTORY_BYTES + 50).to_bytes(4, "little")
        (tmp_path / "a.npz").write_bytes(written)
        with pytest.raises(BadData, match="its list of contents claims"):
            array_names(tmp_path / "a.npz")

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_a_missing_file_is_refused(self, tmp_path, name):
        with pytest.raises(BadData, match=f"{name} is missing; expected a .npy or .npz file"):
            open_array(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_a_pickle_is_refused(self, tmp_path, name):
        save = np.save if name.endswith("npy") else np.savez
        save(tmp_path / name, np.array([{"x": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(BadData, match="holds Python objects, which are never unpickled"):
            open_array(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.npy", "a.npz"])
    def test_another_kind_of_file_is_refused(self, tmp_path, name):
        (tmp_path / name).write_text(json.dumps({"x": 1}))
        with pytest.raises(BadData, match=name):
            open_array(tmp_path / name)

    def test_an_archive_of_several_arrays_needs_a_key(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.arange(2), y=np.arange(2))
        with pytest.raises(BadData, match="holds x, y; expected one array per file"):
            open_array(tmp_path / "a.npz")
        with pytest.raises(BadData, match="holds x, y; expected an array 'z'"):
            open_array(tmp_path / "a.npz", "z")
        assert array_names(tmp_path / "a.npz") == ["x", "y"]

    def test_a_damaged_document_is_refused(self, tmp_path):
        (tmp_path / "a.json").write_text('{"x": ')
        with pytest.raises(BadData, match=r"a\.json cannot be read as JSON"):
            read_json(tmp_path / "a.json")
        with pytest.raises(BadData, match=r"b\.json is missing"):
            read_json(tmp_path / "b.json")


def test_an_array_is_mapped_and_not_loaded_and_cannot_be_written_to(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    opened = open_array(tmp_path / "a.npy")
    assert isinstance(opened, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened[0] = 1


def test_a_folder_that_is_removed_while_it_is_written_is_not_complete(tmp_path):
    def write():
        with atomic_folder(tmp_path / "a") as partial:
            (partial / "first").write_text("1")
            shutil.rmtree(partial)
            write_json(partial / "second", {})

    with pytest.raises(FileNotFoundError, match="partial"):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def done(monkeypatch):
    """What is waited for to be on the disk, and renamed, in that order."""
    steps = []
    real, rename, replace = os.fsync, Path.rename, Path.replace

    def noted(fd):
        real(fd)
        steps.append(("synced", Path(f"/proc/self/fd/{fd}").readlink()))

    def named(way):
        def then(path, to):
            steps.append(("named", Path(to)))
            return way(path, to)

        return then

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "rename", named(rename))
    monkeypatch.setattr(Path, "replace", named(replace))
    return steps


class TestAfterAPowerCut:
    """What has its name has its content, and what has a record is there."""

    def test_a_file_is_on_the_disk_before_it_has_its_name(self, tmp_path, done):
        write_json(tmp_path / "a.json", {})
        (first, _), *rest = done
        assert first == "synced"
        assert rest == [("named", tmp_path / "a.json"), ("synced", tmp_path)]

    def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(self, tmp_path, done):
        with atomic_folder(tmp_path / "a") as partial:
            (partial / "deep" / "er").mkdir(parents=True)
            (partial / "deep" / "one").write_text("1")
            inside = {partial, *partial.rglob("*")}
        assert {path for way, path in done[:4] if way == "synced"} == inside
        assert done[4:] == [("named", tmp_path / "a"), ("synced", tmp_path)]

    def test_what_a_record_declares_is_on_the_disk_before_it(self, tmp_path, done):
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "one").write_text("1")
        record(tmp_path, config={}, inputs={})
        named = done.index(("named", tmp_path / "provenance.json"))
        assert {("synced", tmp_path / "deep"), ("synced", tmp_path / "deep" / "one")} <= set(
            done[:named]
        )
        assert done[-1] == ("synced", tmp_path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret").write_text("elsewhere")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "own").write_text("here")
    return tmp_path / "folder"


@pytest.mark.parametrize("target", ["../secret", "..", "/etc", "no/such/../../../secret"])
def test_a_link_that_leads_out_is_refused_by_name(folder, target):
    (folder / "inner" / "link").symlink_to(target if target[0] == "/" else f"../{target}")
    with pytest.raises(BadData, match=r"inner/link is a link that leads out of .*put a copy"):
        check_no_external_links(folder)


def test_links_within_the_folder_and_to_it_are_followed(folder):
    (folder / "inner" / "link").symlink_to("../own")
    door = folder.parent / "door"
    door.symlink_to(folder)
    for way in (folder, door):
        check_no_external_links(way)
    (folder / "own").rename(folder.parent / "own")
    (folder / "inner" / "link").unlink()
    (folder / "inner" / "link").symlink_to("../../own")
    for way in (folder, door):
        with pytest.raises(BadData, match="leads out"):
            check_no_external_links(way)


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "a\nb", "a" * 300])
def test_a_name_that_no_file_can_have_is_refused(name):
    with pytest.raises(BadData, match="cannot be a file name; expected one without '/'"):
        check_file_names(["good", name])


def test_a_name_beyond_the_encoding_of_the_system_is_refused(monkeypatch):
    monkeypatch.setattr("os.fsencode", lambda name: name.encode("latin-1"))
    check_file_names(["gut-ü"])
    with pytest.raises(
        BadData, match=r"id '\\u5929' cannot be a file name in .*; set PYTHONUTF8=1"
    ):
        check_file_names(["天"])
