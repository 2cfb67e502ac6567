"""Distillation: a student network learns from the probability maps of a teacher and from labels."""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Spec, parse_spec
from members.losses.pixel_weights import mean_or_zero
from members.losses.weighted_sum import WeightedSum
from members.trainers import TRAINERS
from members.trainers.loop import History, Training, TrainingTask, fit

if TYPE_CHECKING:
    from members.recipe import Recipe

AUGMENTATIONS = (
    "flips",
    "translation",
    "rotation",
    "scale",
    "shift_scale_rotate",
    "elastic",
    "cut_mix",
    "negative",
    "brightness_contrast",
    "noise",
    "blur",
)
"""Those that treat soft targets as they treat labels, or that change grey values alone."""

HALF = 127


@dataclass(frozen=True)
class Distillation:
    """A trainer of students; its options are those of `distill`."""

    teacher: str
    temperature: float
    label_share: float
    confidence: float
    rounds: int
    nested: bool

    def __call__(self, task: TrainingTask) -> Training:
        """Train a student; each further round begins with the same weights."""
        first = {name: value.clone() for name, value in task.network.state_dict().items()}
        weighted = replace(task, loss=WeightedSum([(self.label_share, task.loss)]))
        earlier: list[nn.Module] = []
        history: History = []
        for number in range(self.rounds):
            if number:
                earlier.append(deepcopy(task.network).eval().requires_grad_(requires_grad=False))
                task.network.load_state_dict(first)
            history += yield from fit(
                weighted,
                task.network.parameters(),
                epochs=task.recipe.epochs,
                first_epoch=len(history),
                aux_loss=SoftTargetLoss(self, task, tuple(earlier)),
            )
        return history


@dataclass(frozen=True)
class SoftTargetLoss:
    """Cross-entropy of a student's tempered probabilities against the soft targets of a batch.

    It is multiplied by the square of the temperature, so that its gradients keep their size, and by
    the share that the labels leave. Pixels of the ignored class have none.

    Args:
        options: of the distillation.
        task: channels and the ignored class.
        earlier: students of earlier rounds, which join the teacher on images without labels.
    """

    options: Distillation
    task: TrainingTask
    earlier: tuple[nn.Module, ...] = ()

    def __call__(self, images: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch; 0 where no pixel has a soft target.

        Args:
            images: (image, channel, row, col), soft targets behind the image's own channels.
            logits: (image, class, row, col).
            target: (image, row, col).
        """
        channels, temperature = len(self.task.network.mean), self.options.temperature
        values = images[:, channels:-1].float()
        if not values.shape[1]:  # a batch without a teacher, as it is timed for a plan
            return logits.sum() * 0
        sums = values.sum(dim=1, keepdim=True)
        soft = values / sums.clamp_min(1)
        counts = sums[:, 0] > 0
        if self.task.ignore is not None:
            counts &= target != self.task.ignore
        if self.earlier:
            soft = self._joined(images, soft)
        losses = -(soft * (logits / temperature).log_softmax(dim=1)).sum(dim=1)
        mean = mean_or_zero(losses, counts.float())
        return (1 - self.options.label_share) * temperature**2 * mean

    def _joined(self, images: Tensor, soft: Tensor) -> Tensor:
        """Return the mean of teacher and earlier students where images have no labels."""
        own = images[:, : len(self.task.network.mean)]
        with torch.no_grad(), self.task.precision.autocast():
            maps = [_main(network(own)).float() for network in self.earlier]
        others = [functional.softmax(m / self.options.temperature, dim=1) for m in maps]
        return torch.where(images[:, -1:] > HALF, torch.stack([soft, *others]).mean(dim=0), soft)


def _main(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple) else outputs


def distill(
    *,
    teacher: str,
    temperature: Annotated[float, Field(ge=1, le=100)] = 2.0,
    label_share: Annotated[float, Field(ge=0, lt=1)] = 0.3,
    confidence: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    rounds: Annotated[int, Field(ge=1, le=10)] = 1,
    nested: bool = False,
) -> Distillation:
    """Train a student by a fusion's maps of training and unlabelled images, and by the labels.

    The training images are taught by out-of-fold maps, those of the experiment's `unlabelled` by
    the mean of all folds. A student counts as trained on every image that a teacher saw.

    Args:
        teacher: name of a fusion or member of the run.
        temperature: divides the logits of teacher and student before they are compared.
        label_share: of the recipe's loss in the whole; the soft targets have the rest.
        confidence: pixels whose most probable class is less probable teach nothing.
        rounds: trainings one after the other; students of earlier rounds join the teacher on
            unlabelled images, never on labelled ones, which they have learnt.
        nested: train the teachers of a fold's student again without the images of that fold, so
            that its out-of-fold maps are honest; takes as many times longer as there are folds.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015; Xie et al.,
        "Self-training with Noisy Student improves ImageNet classification", CVPR 2020, for rounds.

    Examples:
        >>> distill(teacher="mean", rounds=2).temperature
        2.0
    """
    return Distillation(teacher, temperature, label_share, confidence, rounds, nested)


def distillation_of(recipe: "Recipe") -> Distillation | None:
    """Return the options of a student's recipe; None for other trainers."""
    from members.recipe import is_student

    if not is_student(recipe):
        return None
    options: Distillation = TRAINERS.build(recipe.trainer)
    return options


def check_student(recipe: "Recipe", architecture: Spec) -> None:
    """Refuse recipes whose images would no longer fit their soft targets.

    Raises:
        BadSpec: specialists, resized images, or an augmentation that knows no soft targets.
    """
    if distillation_of(recipe) is None:
        return
    if architecture.name == "specialists":
        raise BadSpec("trainer distill takes networks of all classes; leave out specialists(...)")
    if recipe.size is not None:
        raise BadSpec("trainer distill takes images of their own size; leave out size")
    for spec in recipe.augment:
        name = parse_spec(spec).name
        if name not in AUGMENTATIONS:
            raise BadSpec(
                f"trainer distill cannot use augmentation {name}; it takes"
                f" {', '.join(AUGMENTATIONS)}"
            )
