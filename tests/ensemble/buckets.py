"""A bucket of a local S3 server for tests, and runs with their maps in it."""

import contextlib
import json
import logging
import os
import shutil

import pytest

from ensemble.pipeline.run.open_run import run_experiment
from ensemble.pipeline.run.store_location import OWNER_FILE, store_urls
from evaluation.core.blocks import blocks
from evaluation.core.run_folder import Run
from members import object_store
from members.object_store import read_object, sizes_under
from members.store import ProbabilityStore
from members.store_metadata import META, StoreMetadata
from tests.ensemble.clusters import results

URL = "s3://bucket/runs"


@contextlib.contextmanager
def a_bucket():
    """Start a server with a bucket, and name it in the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    started = ThreadedMotoServer(port=0, verbose=False)
    started.start()
    port = started.get_host_and_port()[1]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "ens")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        object_store._files.cache_clear()
        with contextlib.suppress(FileExistsError):  # servers of a process share what they hold
            object_store._files("s3", os.getpid()).mkdir("bucket")
        yield
        object_store._files.cache_clear()
    started.stop()


def in_bucket(local, folder):
    """Copy a run and bring its maps into the bucket."""
    at = Run(folder)
    shutil.copytree(local, folder)
    with store_urls(at, URL) as place:
        for folder in at.stores(META):
            old = ProbabilityStore(folder)
            maps = old.read(slice(None))
            shutil.rmtree(folder / "maps.zarr")
            shutil.rmtree(folder / "done")
            new = ProbabilityStore.create(
                folder,
                ids=old.ids,
                classes=old.classes,
                extent=old.extent,
                seen=old.seen,
                url=place("-".join(folder.parts[-2:])),
            )
            for block in blocks(new.extent):
                new.write(block, maps[block])
    run_experiment(at).model_copy(update={"store": URL}).write(at.experiment)
    return at
    return at


def found(at):
    """Return all that a run holds but records, wherever it lies: arrays by what they are of."""
    here = {str(name): content for name, content in results(at.path).items()}
    for folder in at.stores(META):
        name = str(folder.relative_to(at.path))
        if (url := url_of(folder)) is None:
            continue
        for part in sizes_under(url):
            here[f"{name}/maps.zarr/{part}"] = read_object(f"{url}/{part}", 1 << 20)
        document = json.loads(here[f"{name}/{META}"])
        here[f"{name}/{META}"] = {key: value for key, value in document.items() if key != "at"}
    for folder in at.stores(META):
        if url_of(folder) is None:
            name = f"{folder.relative_to(at.path)}/{META}"
            here[name] = json.loads(here[name])
    own = ("objects.json", "experiment.yaml")
    timed = ("/done/", "history.csv", ".png")
    return {k: v for k, v in here.items() if k not in own and not any(part in k for part in timed)}


def url_of(folder):
    return StoreMetadata.read(folder).url


def home_of(at):
    return f"{URL}/{json.loads(at.objects.read_text())['name']}"


def named(at):
    """Return the arrays that the run's stores name, and those that are there."""
    wanted = {url_of(folder).rpartition("/")[2] for folder in at.stores(META)}
    there = {name.partition("/")[0] for name in sizes_under(home_of(at))} - {OWNER_FILE}
    return wanted, there
