"""Learning-rate schedules."""

import numpy as np
import pytest
import torch

from members.optimizers import SCHEDULES


def test_cosine_rises_then_falls_to_its_end():
    share = SCHEDULES.build("cosine(warmup=1, final_ratio=0.1)", epochs=11)
    assert [round(share(e, []), 3) for e in (0.5, 1.0, 6.0, 11.0)] == [0.5, 1, 0.55, 0.1]


def test_plateau_reduces_as_torch_does():
    scores = np.random.default_rng(0).normal(np.minimum(np.arange(40), 12), 2).tolist()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    referee = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=2, threshold=0, min_lr=0.01
    )
    share = SCHEDULES.build("plateau(factor=0.5, patience=2, warmup=0)", epochs=40)
    for epoch, score in enumerate(scores):
        assert share(float(epoch), scores[:epoch]) == pytest.approx(optimizer.param_groups[0]["lr"])
        referee.step(score)
    assert optimizer.param_groups[0]["lr"] < 0.1


@pytest.mark.parametrize("schedule", ["constant(warmup=2)", "plateau(warmup=2)"])
def test_a_warm_up_rises_linearly(schedule):
    share = SCHEDULES.build(schedule, epochs=9)
    assert [share(done, []) for done in (0.0, 1.0, 2.0, 3.0)] == [0.01, 0.5, 1, 1]
