"""A crash before, at and after every step of every stage: a plain rerun gives what was to come."""

import random
from dataclasses import dataclass, field

import pytest

from evaluation.core.files import is_temp
from tests.faults.children import DIED, Fault, is_refused
from tests.faults.conftest import STAGES
from tests.faults.trees import differing, state

MOST_BYTES = 200
"""At most so many are written before a process dies in the middle of a file."""

AFTER = dict(zip(STAGES, (*STAGES[1:], "end"), strict=True))

# To another result and back: what each goes astray by, and the stages that lead back.
ASTRAY = {
    "fuse": (["fuse", "--strategy", "stacking(l2=1)", "--name", "stacked"], ["fuse"]),
    "postprocess": (
        ["postprocess", "--fusion", "stacked", "--name", "stacked_tuned", "--chain", ""],
        ["postprocess"],
    ),
}


@dataclass
class Tries:
    """Faults in one stage, and what was wrong about them.

    A rerun from results in which a new process can see no difference to those it was tried from
    before is left out: it would do the same.

    Args:
        tiny: the experiment.
        back: the stages that bring the results back.
        expected: what they must be then.
    """

    tiny: object
    back: list[str]
    expected: dict[str, str | bytes]
    tried: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def rerun(self, fault: Fault) -> None:
        """Run the stages again after a fault, and compare."""
        before = state(self.tiny.work)
        if before in self.tried:
            return
        self.tried.add(before)
        for stage in self.back:
            again = self.tiny.do(self.tiny.stages()[stage])
            self.note(fault, f"run again, {stage} says {again.said}", again.code)
        unlike = differing(self.tiny.holds(), self.expected)
        self.note(fault, f"{unlike} came out otherwise", unlike)

    def note(self, fault: Fault, what: str, is_wrong: object) -> None:
        """Keep what is wrong, and go on to the next."""
        if is_wrong:
            self.wrong.append(f"{fault}: {what}")


def fault_at(way, point):
    return Fault(way, point, random.Random(point).randrange(1, MOST_BYTES))


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
class TestEveryStage:
    @pytest.mark.parametrize("way", ["before", "half"])
    def test_comes_out_the_same_after_a_crash(self, tiny, stages, stage, way, points_of):
        kept, points, expected = stages
        tries, died = Tries(tiny, [stage], expected[AFTER[stage]]), 0
        chosen = points_of(points[stage], way)
        for fault in (fault_at(way, point) for point in chosen):
            tiny.empty(like=kept[stage])
            ended = tiny.do(tiny.stages()[stage], fault)
            # Where nothing is written any more, nothing is cut short.
            as_meant = ended.code == DIED if way == "before" else ended.code <= 0
            tries.note(fault, f"ended by {ended}", not as_meant)
            died += ended.code != 0
            tries.rerun(fault)
        assert tries.wrong == []
        assert died or len(points[stage]) > len(chosen)

    def test_on_a_full_disk_refuses_in_one_line_and_leaves_nothing(
        self, tiny, stages, stage, points_of
    ):
        kept, points, expected = stages
        tries = Tries(tiny, [stage], expected[AFTER[stage]])
        for fault in (fault_at("full", point) for point in points_of(points[stage], "full")):
            tiny.empty(like=kept[stage])
            ended = tiny.do(tiny.stages()[stage], fault)
            as_meant = is_refused(ended) and "large" in ended.said.splitlines()[-1]
            tries.note(fault, f"ended by {ended}", ended.code and not as_meant)
            left = [str(path) for path in tiny.work.rglob("*") if is_temp(path)]
            tries.note(fault, f"left {left}", left)
            tries.rerun(fault)
        assert tries.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", sorted(ASTRAY))
def test_what_was_cut_short_on_the_way_elsewhere_is_never_taken_for_what_was(
    tiny, stages, stage, points_of
):
    kept, points, expected = stages
    other, back = ASTRAY[stage]
    tries = Tries(tiny, back, expected["end"])
    for point in points_of(points[stage], "astray"):
        tiny.empty(like=kept["end"])
        tiny.do([[*other, "--run", tiny.run]], Fault("before", point))
        tries.rerun(Fault("before", point))
    assert tries.wrong == []
