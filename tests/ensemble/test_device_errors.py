"""A GPU that fails is reported in one line, and not blamed on the package or the user's files."""

from unittest import mock

import numpy as np
import pytest
import torch

from ensemble import cli
from ensemble.pipeline.package import apply
from ensemble.pipeline.package.manifest import Package
from evaluation.core.classes import MARS
from evaluation.core.errors import BadRun, EnsError
from members.devices import DeviceFailed

ERRORS = {
    "the GPU ran out of memory; use ": torch.OutOfMemoryError("CUDA out of memory"),
    "the GPU failed (CUDA error: an illegal": torch.AcceleratorError(
        "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be", 700
    ),
    "the GPU failed (cuDNN error: CUDNN_STATUS": RuntimeError("cuDNN error: CUDNN_STATUS_BAD"),
}


@pytest.mark.parametrize(("line", "error"), ERRORS.items(), ids=["memory", "kernel", "cudnn"])
def test_a_command_reports_it_in_one_line(line, error, monkeypatch, capsys):
    monkeypatch.setattr(cli.ens, "main", mock.Mock(side_effect=error))
    assert cli.run_command(["apply"]) == 2
    [printed] = capsys.readouterr().err.splitlines()
    assert printed.startswith(f"ens: {line}")


def test_another_runtime_error_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli.ens, "main", mock.Mock(side_effect=RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        cli.run_command(["apply"])


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ERRORS["the GPU ran out of memory; use "], EnsError),
        (ERRORS["the GPU failed (CUDA error: an illegal"], DeviceFailed),
        (RuntimeError("size mismatch"), BadRun),
    ],
    ids=["memory", "kernel", "package"],
)
def test_a_package_is_blamed_for_its_own_faults_only(error, kind, monkeypatch):
    package = mock.create_autospec(Package, instance=True)
    package.manifest = mock.Mock(channels=1, shape=(4, 6), image_type=np.uint8)
    package.classes, package.folder = MARS, "package"
    monkeypatch.setattr(apply, "predict_labels", mock.Mock(side_effect=error))
    with pytest.raises(EnsError) as raised:
        apply._smoke_test(package, "cpu")
    assert type(raised.value) is kind
