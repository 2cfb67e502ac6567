"""A crash before, at and after every step of every stage: a plain rerun gives what was to come."""

import random

import pytest

from evaluation.ground.leftovers import is_leftover
from tests.faults.children import DIED, Fault
from tests.faults.trees import differing

STAGES = ("train", "fuse", "postprocess", "score", "submit", "freeze", "freeze again")
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


def fault_at(way, point):
    return Fault(way, point, random.Random(point).randrange(1, MOST_BYTES))


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
class TestEveryStage:
    @pytest.mark.parametrize("way", ["before", "half"])
    def test_comes_out_the_same_after_a_crash(self, tiny, stages, stage, way, points_of):
        kept, points, expected = stages
        died = 0
        tried = points_of(points[stage], way)
        for point in tried:
            tiny.empty(like=kept[stage])
            ended = tiny.do(tiny.stages()[stage], fault_at(way, point))
            # Where nothing is written any more, nothing is cut short.
            assert ended.code == DIED if way == "before" else ended.code <= 0, ended.said
            died += ended.code != 0
            again = tiny.do(tiny.stages()[stage])
            assert again.code == 0, f"{way} step {point}: {again.said}"
            assert differing(tiny.holds(), expected[AFTER[stage]]) == [], f"{way} step {point}"
        assert died or points[stage] > len(tried)

    def test_on_a_full_disk_refuses_in_one_line_and_leaves_nothing(
        self, tiny, stages, stage, points_of
    ):
        kept, points, expected = stages
        for point in points_of(points[stage], "full"):
            tiny.empty(like=kept[stage])
            ended = tiny.do(tiny.stages()[stage], fault_at("full", point))
            if ended.code:
                assert (ended.code, "Traceback" in ended.said) == (2, False), ended.said
                assert "large" in ended.said.splitlines()[-1], ended.said
                assert sum(line.startswith("ens: ") for line in ended.said.splitlines()) == 1
            assert [path for path in tiny.work.rglob("*") if is_leftover(path)] == []
            again = tiny.do(tiny.stages()[stage])
            assert again.code == 0, f"step {point}: {again.said}"
            assert differing(tiny.holds(), expected[AFTER[stage]]) == [], f"step {point}"


@pytest.mark.slow
@pytest.mark.parametrize("stage", sorted(ASTRAY))
def test_what_was_cut_short_on_the_way_elsewhere_is_never_taken_for_what_was(
    tiny, stages, stage, points_of
):
    kept, points, expected = stages
    other, back = ASTRAY[stage]
    for point in points_of(points[stage], "astray"):
        tiny.empty(like=kept["end"])
        tiny.do([[*other, "--run", tiny.run]], Fault("before", point))
        for name in back:
            assert tiny.do(tiny.stages()[name]).code == 0
        assert differing(tiny.holds(), expected["end"]) == [], f"step {point}"
