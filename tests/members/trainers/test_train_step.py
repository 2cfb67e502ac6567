"""A training step: the weights of a bare loop, and nothing that waits for the device."""

import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from members.devices import Precision
from members.losses import build_loss
from members.network import NormalisedNetwork
from members.recipe import Recipe
from members.trainers import epoch_metrics
from members.trainers.adversarial import AdversarialCritic, MaskCritic, PatchGAN
from members.trainers.epoch_metrics import EpochMetrics, batch_confusion, confusion_on_device
from members.trainers.loop import TrainingTask, TrainStep
from members.trainers.step_graphs import (
    PLAIN_STEPS,
    StepGraphs,
    is_recordable,
    make_recordable,
)

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "is_nonzero")
"""Operations that return a number to the host, or whose results have sizes that it must ask for."""


class Waits(RuntimeError):
    """An operation for which the host waits."""


class NoWaiting(TorchDispatchMode):
    """Refuses operations for which the host waits for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith(("index", "_index")) and any(
            isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8)
            for part in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        if name in WAITING or by_mask:
            raise Waits(name)
        return func(*args, **(kwargs or {}))


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (4, 1, 16, 24), dtype=torch.uint8, generator=generator)
    target = torch.randint(0, 5, (4, 16, 24), dtype=torch.uint8, generator=generator)
    target[0, :3] = 255
    return images, target


def task_of(loss="cross_entropy", architecture="unet(width=2, depth=1)", **recipe):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NormalisedNetwork(architecture, channels=1, classes=5)
    return TrainingTask(
        network=network.train(),
        loss=build_loss(loss, frequencies=np.full(5, 0.2), ignore=0),
        batches=lambda _: iter(()),
        steps=1,
        validate=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=Recipe(architecture=architecture, **recipe),
        precision=Precision("cpu", "float32"),
        classes=5,
        ignore=0,
    )


def weights_of(network):
    return torch.cat([value.double().flatten() for value in network.state_dict().values()])


def test_weights_and_sums_are_those_of_a_bare_loop():
    ours, bare = (task_of(ema=0.9, clip=0.05) for _ in range(2))
    step = TrainStep(ours, list(ours.network.parameters()))
    optimizer = torch.optim.AdamW(bare.network.parameters(), lr=1e-3, weight_decay=1e-2)
    updates = 0

    def average(old, new, _):
        kept = min(0.9, (1 + updates) / (10 + updates))
        return torch.lerp(old, new, 1 - kept) if old.is_floating_point() else new

    averaged = AveragedModel(bare.network, avg_fn=average, use_buffers=True)
    losses, counts = [], torch.zeros(5, 5, dtype=torch.int64)
    for number in range(5):
        images, target = drawn(number)
        step(images, target, rate=1 / (1 + number))
        optimizer.param_groups[0]["lr"] = 1e-3 / (1 + number)
        logits = bare.network(images)
        loss = bare.loss(logits, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bare.network.parameters(), 0.05)
        optimizer.step()
        updates = number
        averaged.update_parameters(bare.network)
        losses.append(loss.item())
        known = target != 255
        pairs = target[known].long() * 5 + logits.argmax(dim=1)[known]
        counts += torch.bincount(pairs, minlength=25).reshape(5, 5)
    assert torch.equal(weights_of(ours.network), weights_of(bare.network))
    assert torch.equal(weights_of(step.validated), weights_of(averaged.module))
    metrics = step.read_metrics()
    assert metrics.loss == sum(losses) / 5
    assert metrics.accuracy == counts.diag()[1:].sum() / counts[1:].sum()


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy(weights=frequency)",
        "focal + dice",
        "dice(weights=generalised)",
        "ssim",
        "learned_weights(dice, cross_entropy(ignored_weight=0.5))",
    ],
)
@pytest.mark.parametrize("is_adversarial", [False, True])
def test_no_step_waits_for_the_device(loss, is_adversarial, monkeypatch):
    monkeypatch.setattr(epoch_metrics, "batch_confusion", confusion_on_device)
    # On a GPU torch's own does not look whether labels are in range.
    monkeypatch.setattr(
        functional, "one_hot", lambda labels, classes: torch.eye(classes).long()[labels]
    )
    task = task_of(loss, ema=0.9)
    critic = MaskCritic(AdversarialCritic(PatchGAN(6, 2)), ignore=0, weight=1.0)
    parameters = [*task.network.parameters(), *task.loss.parameters()]
    step = TrainStep(task, parameters, aux_loss=critic if is_adversarial else None)
    step(*drawn(), rate=1.0)
    # An optimiser on the CPU counts its steps there.
    for optimizer in (step._optimizer, critic._critic._optimizer):
        monkeypatch.setattr(optimizer, "step", lambda: None)
    with NoWaiting():
        step(*drawn(1), rate=0.5)
    assert step.read_metrics().loss > 0


def test_an_operation_that_waits_is_found():
    with pytest.raises(Waits, match="_local_scalar_dense"), NoWaiting():
        torch.ones(2).sum().item()
    with pytest.raises(Waits, match="index"), NoWaiting():
        torch.ones(2)[torch.tensor([True, False])]


def test_the_confusion_on_a_device_is_that_of_the_cpu():
    _, target = drawn()
    logits = torch.randn(4, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    expected = batch_confusion(logits, target, 5)
    assert expected.sum() == (target != 255).sum()
    assert torch.equal(confusion_on_device(logits, target, 5), expected)


@pytest.mark.parametrize(("choice", "expected"), [("float32", "ieee"), ("auto", "tf32")])
def test_the_precision_holds_forwards_and_backwards(choice, expected):
    setting, seen = torch.backends.cudnn.conv, []
    task = replace(task_of(), precision=Precision("cpu", choice))

    def note(*_):
        seen.append(setting.fp32_precision)

    head = task.network.body.head
    head.register_forward_hook(note)
    head.weight.register_hook(note)
    TrainStep(task, list(task.network.parameters()))(*drawn(), rate=1.0)
    assert seen == [expected] * 2


def test_a_step_that_is_used_no_more_is_freed_at_once():
    task = task_of(ema=0.9)
    step = TrainStep(task, list(task.network.parameters()))
    step(*drawn(), rate=1.0)
    average = weakref.ref(step.validated)
    del step
    assert average() is None


class WorksOnHost(nn.Module):
    works_on_host = True


class Recorded:
    """What a CUDA graph is to `StepGraphs`: it repeats a step on the tensors it was given."""

    def __init__(self, step, images, target):
        self.replay = lambda: step(images, target)

    def pool(self):
        return "pool"


@pytest.mark.parametrize(
    ("loss", "optimizer", "expected"),
    [
        (nn.CrossEntropyLoss(), torch.optim.AdamW, True),
        (nn.CrossEntropyLoss(), torch.optim.SGD, False),
        (WorksOnHost(), torch.optim.AdamW, False),
        (nn.Sequential(nn.CrossEntropyLoss(), WorksOnHost()), torch.optim.AdamW, False),
    ],
)
def test_steps_are_recorded_where_loss_and_optimiser_stay_on_the_device(loss, optimizer, expected):
    weights = torch.ones(2, requires_grad=True)
    assert is_recordable(loss, optimizer([weights], lr=0.1)) is expected


def test_a_recordable_optimiser_keeps_its_learning_rate_where_graphs_read_it():
    optimizer = torch.optim.AdamW([torch.ones(2, requires_grad=True)], lr=0.1)
    make_recordable(optimizer, torch.device("cpu"))
    (group,) = optimizer.param_groups
    assert group["capturable"]
    assert group["lr"].item() == pytest.approx(0.1)
    group["lr"].fill_(0.2)
    assert optimizer.param_groups[0]["lr"] is group["lr"]


def test_recorded_steps_train_as_plain_ones_and_see_each_learning_rate():
    """As on a GPU, where the step is repeated and the rate is read from memory."""
    plain, recorded = (TrainStep(t, list(t.network.parameters())) for t in (task_of(), task_of()))
    make_recordable(recorded._optimizer, torch.device("cpu"))
    recorded._optimizer.param_groups[0]["capturable"] = False  # what the CPU lacks
    recorded.graphs = StepGraphs(lambda step, pool, images, target: Recorded(step, images, target))
    for number in range(2 * PLAIN_STEPS):
        for step in (plain, recorded):
            step(*drawn(number), rate=1 / (1 + number))
    assert recorded.graphs.is_recorded
    torch.testing.assert_close(weights_of(recorded._task.network), weights_of(plain._task.network))
    assert recorded.learning_rate == plain.learning_rate


class TestStepGraphs:
    @pytest.fixture
    def seen(self):
        return []

    def graphs(self, seen, record):
        return partial(StepGraphs(record).run, lambda images, _: seen.append(int(images.sum())))

    def test_a_step_is_recorded_once_per_shape_and_repeated_on_new_batches(self, seen):
        pools = []

        def record(step, pool, images, target):
            pools.append(pool)
            return Recorded(step, images, target)

        run = self.graphs(seen, record)
        expected = []
        for number in range(4 * PLAIN_STEPS):
            images = torch.full((1 + number % 2, 1), number)
            run(images, images)
            expected.append(int(images.sum()))
        assert seen == expected
        assert pools == [None, "pool"]

    def test_what_cannot_be_recorded_is_trained_plainly(self, seen):
        attempts = []

        def fail(*_):
            attempts.append(1)
            raise RuntimeError("operation not permitted when stream is capturing")

        run = self.graphs(seen, fail)
        for number in range(3 * PLAIN_STEPS):
            run(torch.tensor([number]), torch.tensor([number]))
        assert seen == list(range(3 * PLAIN_STEPS))
        assert len(attempts) == 1

    def test_a_full_gpu_is_no_reason_to_train_plainly(self, seen):
        def fill(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        run = self.graphs(seen, fill)
        for number in range(PLAIN_STEPS):
            run(torch.tensor([number]), torch.tensor([number]))
        with pytest.raises(torch.OutOfMemoryError):
            run(torch.tensor([1]), torch.tensor([1]))
