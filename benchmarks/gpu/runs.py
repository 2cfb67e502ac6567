"""Parts (g) to (i): a whole run, a Dask cluster that loses a worker, and jobs that fail."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.setting import Row, Setting
from benchmarks.gpu.trainings import _jobs
from members.jobs import run_jobs, run_parallel

FUSION = "mean"


def whole_run(setting: Setting) -> Iterator[Row]:
    """Train, predict, fuse, freeze and apply; the package labels alike on GPU and CPU."""
    from ensemble.cli import run_command

    with TemporaryDirectory() as name:
        folder = Path(name)
        data = setting.data()
        tiles = np.stack([data.images[:, 0], data.target()], axis=1)
        np.savez(folder / "tiles.npz", training_set=tiles, test_set=tiles[:8, 0])
        run = ["--run", str(folder / "run")]
        members = [
            f"--member=m{k}={{architecture: '{network}', epochs: 1}}"
            for k, network in enumerate(_networks(setting))
        ]
        package, labels = folder / "package", folder / "labels"
        commands = {
            "train": ["train-members", *run, "--data", str(folder / "tiles.npz"), *members],
            "fuse": ["fuse", *run, "--strategy", FUSION],
            "postprocess": ["postprocess", *run, "--fusion", FUSION, "--chain", ""],
            "freeze": ["freeze", *run, "--candidate", f"{FUSION}_argmax", "--out", str(package)],
        }
        commands["train"] += ["--folds", str(setting.pick(2, 3)), "--device", setting.device]
        commands["train"] += setting.pick(["--workers", "1"], [])
        for device in dict.fromkeys((setting.device, "cpu")):
            out = ["--out", f"{labels}-{device.replace(':', '')}.npy", "--device", device]
            commands[f"apply on {device}"] = [
                "apply",
                str(package),
                str(folder / "tiles.npz"),
                *out,
            ]
        for step, words in commands.items():
            started = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):
                code = run_command(words)
            yield {"step": step, "ok": code == 0, "s": time.perf_counter() - started}
            if code:
                return
        found = [np.load(file) for file in sorted(folder.glob("labels-*.npy"))]
        yield {"labels that differ": float((found[0] != found[-1]).mean())}


def on_dask(setting: Setting) -> Iterator[Row]:
    """Train on two workers that declare a GPU each, and kill one of them."""
    import dask
    from distributed import LocalCluster

    from evaluation.core.cluster import SETTINGS, on_cluster

    with TemporaryDirectory() as name, dask.config.set(SETTINGS):
        jobs = _jobs(setting, Path(name))[: setting.pick(2, 8)]
        options: dict[str, Any] = {
            "n_workers": 2,
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",
        }
        if setting.has_gpu:
            options["resources"] = {"GPU": 1}
        with LocalCluster(**options) as local, on_cluster(local.scheduler_address):
            started, ended = time.perf_counter(), []
            for job, outcome in run_jobs(jobs, [setting.device]):
                ended.append(outcome)
                if len(ended) == 1:
                    os.kill(next(iter(local.workers.values())).pid, signal.SIGKILL)
                yield {"job": job.name, "ok": outcome is None, "outcome": str(outcome)}
        yield {"jobs": len(ended), "s": time.perf_counter() - started}


def failing_jobs(setting: Setting) -> Iterator[Row]:
    """Run a job that fills the GPU and one that fails in a kernel among healthy ones."""
    kinds = ["healthy", "full", "healthy", "assert", "healthy", "healthy"]
    expected = {"healthy": "None", "full": "the GPU ran out of memory", "assert": "the GPU failed"}
    jobs = iter([partial(_failing, kind) for kind in kinds])
    for job, outcome in run_parallel(jobs, [setting.device] * 2):
        kind = job.args[0]
        yield {
            "job": kind,
            "ok": str(outcome).startswith(expected[kind]),
            "outcome": str(outcome),
        }


def _failing(kind: str, device: str) -> None:
    if kind == "healthy":
        assert float(torch.ones(1000, device=device).sum()) == 1000
    elif kind == "full":
        if device == "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.empty(2**50, dtype=torch.uint8, device=device)
    elif device == "cpu":
        raise torch.AcceleratorError("CUDA error: device-side assert triggered", 710)
    else:
        index = torch.full((4,), 100, device=device)
        torch.zeros(4, device=device)[index].sum().item()


def _networks(setting: Setting) -> list[str]:
    if setting.is_tiny:
        return ["unet(width=2, depth=1)"]
    kinds = ("unet", "segnet", "pan", "deeplab_v3_plus", "segformer")
    return [f"{kind}(width={width})" for kind in kinds for width in (8, 12, 16)]
