"""What goes wrong with an object store: one line that names it, and nothing half made."""

import importlib
import json
import re
import sys

import pytest
import yaml

from ensemble.cli import run_command
from ensemble.pipeline.run.open_run import run_experiment
from ensemble.pipeline.run.store_location import store_urls
from members import object_store
from members.object_store import (
    check_url,
    read_object,
    remove_under,
    sizes_under,
    write_object,
)
from members.store_metadata import META
from tests.ensemble.buckets import (
    URL,
    a_bucket,
    home_of,
    in_bucket,
    named,
    url_of,
)
from tests.ensemble.clusters import IMAGES, free_port, write_members

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _server():
    with a_bucket():
        yield


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A run with the maps of two members in its folder."""
    return write_members(tmp_path_factory.mktemp("runs") / "two")


@pytest.fixture
def remote(local, tmp_path):
    """The same run with its maps in the bucket."""
    return in_bucket(local, tmp_path / "run")


@pytest.fixture
def new_connection(monkeypatch):
    """Forget the connection, before and after the environment is changed."""
    object_store._files.cache_clear()
    yield monkeypatch
    object_store._files.cache_clear()


def error_of(capsys, *words):
    """Run a command that is refused; return its one line."""
    capsys.readouterr()
    assert run_command([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    return said.err


class TestWhatIsNotWhole:
    """A chunk that is damaged, lost or too heavy is named by its URL, and no fusion is left."""

    def refused(self, remote, capsys, change, number=2):
        url = f"{url_of(remote.probabilities('two', 'oof'))}/c/{number}/0/0/0"
        change(url, read_object(url, 1 << 20))
        line = error_of(capsys, "fuse", "--run", remote.path, "--strategy", "mean")
        assert url in line
        assert not remote.fused("mean", "oof").exists()
        assert named(remote)[0] == named(remote)[1]
        return line

    def test_a_flipped_bit(self, remote, capsys):
        def flip(url, content):
            write_object(url, content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])

        line = self.refused(remote, capsys, flip)
        assert "two/oof: images from 128 on are damaged (the checksum of " in line

    def test_a_lost_chunk(self, remote, capsys):
        line = self.refused(remote, capsys, lambda url, _: remove_under(url))
        assert "is not there); remove the folder and make it again" in line

    def test_an_empty_chunk(self, remote, capsys):
        line = self.refused(remote, capsys, lambda url, _: write_object(url, b""))
        assert "is too short)" in line

    def test_of_a_chunk_that_is_too_heavy_one_byte_too_many_is_fetched(
        self, remote, capsys, monkeypatch
    ):
        fetched = []

        def read(url, most):
            fetched.append((url, len(content := read_object(url, most)), most))
            return content

        monkeypatch.setattr("members.chunks.read_object", read)
        line = self.refused(remote, capsys, lambda url, c: write_object(url, c + bytes(1 << 20)))
        assert "is too long)" in line
        heavy = [(weight, most) for url, weight, most in fetched if url in line]
        assert heavy == [(most + 1, most) for _, most in heavy] != []

    def test_a_first_chunk_of_another_weight_is_refused_before_any_is_read(self, remote, capsys):
        heavy = lambda url, content: write_object(url, content + b"1")  # noqa: E731
        assert "bytes, expected" in self.refused(remote, capsys, heavy, number=0)

    def test_a_lost_header(self, remote, capsys):
        url = url_of(remote.probabilities("two", "oof"))
        remove_under(f"{url}/zarr.json")
        line = error_of(capsys, "fuse", "--run", remote.path, "--strategy", "mean")
        assert f"two/oof is damaged ({url}/zarr.json is not there)" in line


@pytest.mark.parametrize("what", ["five_big rock-oof", "naïve.unet-test"])
def test_whatever_the_name_a_place_is_a_url(remote, what):
    with store_urls(remote, URL) as place:
        assert check_url(place(what)).startswith(home_of(remote))


class TestStrangers:
    """What a store claims is held against what is there, before memory is taken."""

    @pytest.mark.parametrize("at", ["file:///etc", "s3://b/../c", "s3://b/?versionId=1", 5, None])
    def test_a_place_that_is_no_url_of_an_object_store(self, remote, capsys, at):
        folder = remote.probabilities("two", "oof")
        document = json.loads((folder / META).read_text()) | {"at": at}
        (folder / META).write_text(json.dumps(document))
        line = error_of(capsys, "fuse", "--run", remote.path, "--strategy", "mean")
        assert "two/oof is damaged (" in line

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"shape": [IMAGES, 3, 1 << 40, 1 << 40]}, "an array of"),
            (
                {
                    "shape": [IMAGES, 3, 1 << 40, 1 << 40],
                    "chunk_grid": {
                        "name": "regular",
                        "configuration": {"chunk_shape": [64, 3, 1 << 40, 1 << 40]},
                    },
                },
                "an array of",
            ),
            ({"chunk_key_encoding": {"name": "v2"}}, "calls its chunks"),
            ({"attributes": {"much": "x" * (1 << 20)}}, "is damaged"),
        ],
        ids=["shape", "shape and chunks", "names of chunks", "a heavy header"],
    )
    def test_a_header(self, remote, capsys, change, words):
        url = f"{url_of(remote.probabilities('two', 'oof'))}/zarr.json"
        document = json.loads(read_object(url, 1 << 20))
        write_object(url, json.dumps(document | change).encode())
        line = error_of(capsys, "fuse", "--run", remote.path, "--strategy", "mean")
        assert "two/oof is damaged (" in line
        assert words in line

    @pytest.mark.parametrize(
        "change",
        [
            {"inode": 1},
            {"folder": "/elsewhere"},
            {"name": "../other-0123456789abcdef"},
            {"name": ["run-0123456789abcdef"]},
        ],
    )
    def test_a_name_that_is_not_this_runs_own_is_not_taken(self, remote, change):
        before = home_of(remote)
        document = json.loads(remote.objects.read_text()) | change
        remote.objects.write_text(json.dumps(document))
        assert run_command(["fuse", "--run", str(remote.path), "--strategy", "mean"]) == 0
        assert home_of(remote) not in (before, f"{URL}/{change.get('name')}")
        assert sizes_under(before)


class TestRefusals:
    FUSE = ("fuse", "--strategy", "mean", "--run")

    @pytest.mark.parametrize(
        "url",
        ["bucket/runs", "http://bucket/runs", "s3://", "s3://b/../c", "s3://b/*", "s3://k:p@b/c"],
    )
    def test_what_is_no_url_of_an_object_store(self, tmp_path, capsys, url):
        expected = "expected a URL such as s3://bucket/runs"
        line = error_of(capsys, "train-members", "--run", tmp_path / "run", "--store", url)
        assert expected in line
        (tmp_path / "asked.yaml").write_text(yaml.safe_dump({"store": url}))
        line = error_of(capsys, "run", tmp_path / "asked.yaml", "--run", tmp_path / "run")
        assert f"'store' got {url!r}; {expected}" in line
        assert not (tmp_path / "run").exists()

    def test_no_such_bucket(self, remote, capsys):
        nowhere = {"store": "s3://nowhere/runs"}
        run_experiment(remote).model_copy(update=nowhere).write(remote.experiment)
        line = error_of(capsys, *self.FUSE, remote.path)
        assert re.search(
            r"s3://nowhere/runs/run-\w+/.* cannot be written \(.* does not exist", line
        )
        assert not remote.fusion("mean").exists()

    def test_no_server(self, remote, capsys, new_connection):
        new_connection.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        line = error_of(capsys, *self.FUSE, remote.path)
        assert "cannot be read (Could not connect to the endpoint" in line
        assert "look at the URL, at AWS_ENDPOINT_URL and the credentials" in line

    def test_a_server_that_goes_away_meanwhile(self, remote, capsys, new_connection):
        from moto.server import ThreadedMotoServer

        other = ThreadedMotoServer(port=0, verbose=False)
        other.start()
        written = []

        def write(url, content):
            if len(written) == 3:
                other.stop()
            written.append(url)
            write_object(url, content)

        with new_connection.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{other.get_host_and_port()[1]}")
            patch.setattr("members.chunks.write_object", write)
            line = error_of(capsys, *self.FUSE, remote.path)
        assert re.search(r"mean-oof-\w+/c/\d/0/0/0 cannot be written \(Could not connect", line)
        object_store._files.cache_clear()
        wanted, there = named(remote)
        assert len(there - wanted) == 1
        assert run_command([*self.FUSE, str(remote.path)]) == 0
        assert named(remote)[0] == named(remote)[1]

    def test_a_plan_tells_it(self, remote, capsys):
        nowhere = {"store": "s3://nowhere/runs"}
        run_experiment(remote).model_copy(update=nowhere).write(remote.experiment)
        assert run_command(["plan", str(remote.experiment)]) == 2
        assert "s3://nowhere/runs/plan cannot be listed (" in capsys.readouterr().out

    def test_wrong_credentials(self, remote, capsys, new_connection):
        new_connection.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
        line = error_of(capsys, *self.FUSE, remote.path)
        assert "cannot be read (The AWS Access Key Id you provided does not exist" in line

    def test_no_credentials(self, remote, capsys, new_connection):
        new_connection.delenv("AWS_ACCESS_KEY_ID")
        new_connection.delenv("AWS_SECRET_ACCESS_KEY")
        new_connection.setenv("AWS_EC2_METADATA_DISABLED", "true")
        line = error_of(capsys, *self.FUSE, remote.path)
        assert "(Unable to locate credentials)" in line

    def test_without_s3fs(self, remote, capsys, new_connection):
        new_connection.delitem(
            importlib.import_module("fsspec.registry")._registry, "s3", raising=False
        )
        new_connection.setitem(sys.modules, "s3fs", None)
        line = error_of(capsys, *self.FUSE, remote.path)
        assert "s3:// needs s3fs: pip install -e '.[s3]' in the source folder" in line
