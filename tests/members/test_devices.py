"""Choice of devices and precision, with simulated GPUs."""

import contextlib
import re
from functools import partial

import pytest
import torch

from evaluation.core.errors import BadSpec
from members import devices as there
from members.devices import DeviceFailed, Precision, data_device, device_error, devices
from members.worker_pool import outcome_of


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_tests_see_no_gpu():
    assert torch.cuda.device_count() == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "ran out of memory; use fewer --workers"),
        (
            RuntimeError("CUDA error: an illegal\naccess CUDA kernel errors might be asynchronous"),
            r"^the GPU failed \(CUDA error: an illegal access\); set CUDA_LAUNCH_BLOCKING=1",
        ),
        (RuntimeError("cuDNN error: BAD_PARAM"), r"the GPU failed \(cuDNN error: BAD_PARAM\)"),
    ],
)
def test_failures_of_a_gpu_are_told_in_one_line(error, words):
    assert re.search(words, str(device_error(error)))


def test_other_failures_are_not_those_of_a_gpu():
    assert device_error(RuntimeError()) is None
    with pytest.raises(RuntimeError, match="shapes"):
        outcome_of(partial(fail, RuntimeError("shapes")))
    assert isinstance(outcome_of(partial(fail, RuntimeError("CUDA error: x"))), DeviceFailed)


def fail(error):
    raise error


@pytest.mark.usefixtures("two_gpus")
class TestTwoGpus:
    @pytest.mark.parametrize(
        ("choice", "taken"),
        [
            ("auto", ["cuda:0", "cuda:1"]),
            ("cuda", ["cuda:0", "cuda:1"]),
            ("cuda:1", ["cuda:1"]),
            ("cpu", ["cpu"]),
        ],
    )
    def test_a_choice_gives_its_devices(self, choice, taken):
        assert devices(choice) == taken

    def test_an_absent_gpu_is_refused_with_the_known_ones(self):
        with pytest.raises(BadSpec, match=r"device 'cuda:2'; here: auto, cpu, cuda:0, cuda:1"):
            devices("cuda:2")


def test_without_a_gpu_the_cpu_is_taken_and_cuda_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices("auto") == ["cpu"]
    with pytest.raises(BadSpec, match="device 'cuda'; here: auto, cpu"):
        devices("cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
class TestPrecision:
    def test_float32_is_left_alone(self, device, monkeypatch):
        able(monkeypatch, device, True)
        assert isinstance(Precision(device, "float32").autocast(), contextlib.nullcontext)

    def test_bfloat16_is_not_emulated(self, device, monkeypatch):
        able(monkeypatch, device, False)
        assert isinstance(Precision(device).autocast(), contextlib.nullcontext)


def test_bfloat16_is_taken_where_it_pays(monkeypatch):
    able(monkeypatch, "cpu", True)
    with Precision("cpu").autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.bfloat16


def able(monkeypatch, device, answer):
    """Pretend a device that computes bfloat16, or none."""
    kind = "cpu" if device == "cpu" else "gpu"
    monkeypatch.setattr(there, f"_{kind}_computes_bfloat16", lambda: answer)


def test_images_stay_on_the_cpu_if_they_need_much_gpu_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert data_device(99, "cuda:0") == "cuda:0"
    assert data_device(100, "cuda:0") == "cpu"
    assert data_device(10**12, "cpu") == "cpu"


@pytest.mark.parametrize(("choice", "expected"), [("float32", "ieee"), ("auto", "tf32")])
def test_float32_products_of_a_gpu_are_exact_only_where_that_is_chosen(choice, expected):
    settings = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [setting.fp32_precision for setting in settings]
    with Precision("cuda:0", choice).kernels():
        assert [setting.fp32_precision for setting in settings] == [expected] * 2
    assert [setting.fp32_precision for setting in settings] == before
