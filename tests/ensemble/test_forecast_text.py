"""What `ens plan` says in words."""

import pytest

from ensemble.pipeline.workflow.plan import PlanReport, format_plan
from ensemble.pipeline.workflow.run_all import DEMO
from ensemble.pipeline.workflow.stages import PlannedStage
from evaluation.core.classes import MARS
from members.recipe import SPECIALISTS
from postproc.chain import parse_chain


def told(seconds):
    step = PlannedStage(
        "train", "unet", parts=2, missing=1, seconds=float(seconds), bytes_to_write=3_000_000
    )
    found = PlanReport("run", [step], ["too dear"], ["strange"], free_bytes=5 * 10**9)
    return format_plan(found).splitlines()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (59.94, "59.9 s"),
        (60, "1.0 min"),
        (90, "1.5 min"),
        (3599, "60.0 min"),
        (3600, "1.0 h"),
        (9000, "2.5 h"),
    ],
)
def test_time_is_formatted_in_the_unit_that_fits(seconds, words):
    assert f"time: about {words}; training at most, it may stop early" in told(seconds)


def test_stages_space_warnings_and_blockers_are_lines_of_their_own():
    step, _, disk, memory, warning, blocker = told(1)
    assert step.split() == ["train", "unet", "1", "of", "2", "missing", "1.0", "s", "3.0", "MB"]
    assert disk == "disk: about 0.00 GB, 5.00 GB are free"
    assert memory.startswith("memory: about 0.00 GB")
    assert (warning, blocker) == ("warning: strange", "fails: too dear")


@pytest.mark.slow
def test_the_demo_names_known_members_and_chains():
    members = DEMO.expanded(MARS)
    assert sum(member.family == "specialists" for member in members) == len(MARS)
    assert SPECIALISTS in DEMO.members["specialists"]["architecture"]
    for chain in DEMO.chains.values():
        parsed = parse_chain(chain, classes=len(MARS), ignore=MARS.ignore, floor=0.0)
        assert not parsed.learns
