"""Parts (a) to (c): every entry takes a step, agrees with the CPU, and how fast steps are."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.setting import Row, Setting, step_of, task_of
from members.architectures import ARCHITECTURES
from members.augmentations import AUGMENTATIONS
from members.augmentations.augment import Augment, TrainingContext
from members.losses import LOSSES
from members.recipe import Recipe
from members.trainers import TRAINERS
from members.trainers.loop import TrainStep, finish

MAX_DIFFERENCE = 1e-3
UNET = "unet(width=16)"
OPTIONS = {
    "generated": "generated(epochs=1, width=2)",
    "offline": "offline(augmentations=[flips, noise])",
}


def every_entry(setting: Setting) -> Iterator[Row]:
    """Train a few steps with each network, loss and trainer; augment a batch by each kind."""
    width = setting.pick("(width=4)", "")
    for name in ARCHITECTURES:
        yield _tried("network", name, lambda name=name: _train(setting, f"{name}{width}"))
    for name in LOSSES:
        yield _tried("loss", name, lambda name=name: _train(setting, _small(setting), loss=name))
    for name in TRAINERS:
        network = f"double_unet{width}" if name == "staged" else _small(setting)
        spec = f"{name}(teacher=mean)" if name == "distill" else name
        yield _tried(
            "trainer", name, lambda n=spec, a=network: _train(setting, a, trainer=n, epochs=1)
        )
    for name in AUGMENTATIONS:
        yield _tried("augmentation", name, lambda name=name: _augment(setting, name))


def against_cpu(setting: Setting) -> Iterator[Row]:
    """Compare logits, loss and gradients of one step in IEEE float32 with those of the CPU."""
    for name in ARCHITECTURES:
        recipe = Recipe(architecture=f"{name}(width=4)", batch=4, precision="float32")
        results = [_one_step(setting, recipe, device) for device in (setting.device, "cpu")]
        apart = [
            float((own - cpu).abs().max() / cpu.abs().max().clamp_min(1e-6))
            for own, cpu in zip(*results, strict=True)
        ]
        row = dict(zip(("logits", "loss", "gradients"), apart, strict=True))
        yield {"network": name, **row, "ok": max(apart) < MAX_DIFFERENCE}


def rates(setting: Setting) -> Iterator[Row]:
    """Train a U-Net: plain steps, recorded ones, and several trainings in streams of their own."""
    for batch in setting.pick((2,), (16, 64, 256)):
        for way, trainings in (("plain", 1), ("graph", 1), ("streams", 4), ("streams", 8)):
            if setting.is_tiny and trainings > 4:
                continue
            yield _rate(setting, batch, way, trainings)


def _small(setting: Setting) -> str:
    return "unet(width=2, depth=1)" if setting.is_tiny else UNET


def _tried(kind: str, name: str, work) -> Row:
    started = time.perf_counter()
    try:
        details = work()
    except Exception as error:
        return {
            "kind": kind,
            "name": name,
            "ok": False,
            "error": f"{type(error).__name__}: {error}",
        }
    return {"kind": kind, "name": name, "ok": True, **details, "s": time.perf_counter() - started}


def _train(setting: Setting, architecture: str, **recipe) -> Row:
    task = task_of(setting, Recipe(architecture=architecture, batch=4, **recipe))
    if setting.has_gpu:
        torch.cuda.set_stream(torch.cuda.Stream(setting.device))
    if "trainer" in recipe:
        history = finish(TRAINERS.build(task.recipe.trainer)(task))
        return {"loss": history[-1]["training_loss"]}
    step = TrainStep(task, [*task.network.parameters(), *task.loss.parameters()])
    for images, target in task.batches(0):
        step(images, target, rate=1.0)
    is_recorded = step.graphs is not None and step.graphs.is_recorded
    return {"loss": step.read_metrics().loss, "recorded": is_recorded}


def _augment(setting: Setting, name: str) -> Row:
    images, masks = setting.batch(8)
    augment, rng = Augment([OPTIONS.get(name, name)]), np.random.default_rng(0)
    if augment.is_online:
        images, _ = augment(images, masks, rng)
    else:
        context = TrainingContext(5, setting.device, 4)
        images, _ = augment.extend_dataset(images.cpu(), masks.cpu(), context, rng)
    return {"images": len(images)}


def _one_step(setting: Setting, recipe: Recipe, device: str) -> list[torch.Tensor]:
    task = task_of(setting, recipe, device)
    for module in task.network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0  # devices draw other numbers
    images, target = (part.to(device) for part in setting.batch(recipe.batch))
    with task.precision.kernels():
        outputs = task.network(images)
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        loss = task.loss(logits, target)
        loss.backward()
    gradients = [p.grad.flatten() for p in task.network.parameters() if p.grad is not None]
    return [part.detach().cpu() for part in (logits, loss, torch.cat(gradients))]


def _rate(setting: Setting, batch: int, way: str, trainings: int) -> Row:
    recipe = Recipe(architecture=_small(setting), batch=batch)
    streams = [torch.cuda.Stream(setting.device) for _ in range(trainings * setting.has_gpu)]
    steps = [step_of(setting, recipe) for _ in range(trainings)]
    if way == "plain":
        for step in steps:
            step.graphs = None
    images, target = setting.batch(batch)
    setting.wait()

    def take_turns() -> None:
        for index, step in enumerate(steps):
            with torch.cuda.stream(streams[index] if streams else None):
                step(images, target, rate=1.0)

    for _ in range(setting.pick(1, 6)):
        take_turns()
    setting.wait()
    started, turns = time.perf_counter(), 0
    while time.perf_counter() - started < setting.pick(0.05, 2.0):
        take_turns()
        turns += 1
        if turns % 10 == 0:
            setting.wait()  # or the host runs ahead of the clock
    setting.wait()
    seconds = time.perf_counter() - started
    images_per_second = turns * trainings * batch / seconds
    return {"batch": batch, "way": way, "trainings": trainings, "images/s": images_per_second}
