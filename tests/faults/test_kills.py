"""SIGKILL at random moments between training and handing over; real ones, by the child's own id."""

import random
import signal
import time

import pytest

from tests.faults.trees import differing

FEW, MANY = 20, 200


def survived(tiny, expected, seconds, kills):
    """Kill and start again until so many kills were survived; compare whenever one got through."""
    rng, done = random.Random(0), 0
    while done < kills:
        tiny.empty()
        killed = True
        while killed:
            child = tiny.start(tiny.everything())
            # What is left to do gets less with every start, and so does the time to hit it.
            child.process.join(rng.uniform(0, seconds) if done < kills else None)
            child.process.kill()
            ended = child.ended()
            killed = ended.code == -signal.SIGKILL
            assert killed or ended.code == 0, ended.said
            done += killed
        assert differing(tiny.holds(), expected) == [], f"after {done} kills"
    return done


@pytest.fixture(scope="module")
def undisturbed(tiny):
    tiny.empty()
    tiny.do([])  # the process that forks the others has all imported now
    started = time.monotonic()
    ended = tiny.do(tiny.everything())
    assert ended.code == 0, ended.said
    return tiny.holds(), time.monotonic() - started


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tiny, undisturbed):
    assert survived(tiny, *undisturbed, FEW) >= FEW


@pytest.mark.faults
@pytest.mark.slow
def test_many_kills_at_random_moments_change_nothing(tiny, undisturbed):
    assert survived(tiny, *undisturbed, MANY) >= MANY
