"""Two processes at the same command on one run."""

import pytest

from tests.faults.trees import differing


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fuse", "postprocess", "score"])
def test_two_at_once_do_not_disturb_each_other(tiny, stages, stage):
    kept, _, expected = stages
    tiny.empty(like=kept[stage])
    both = [tiny.start(tiny.stages()[stage]) for _ in range(2)]
    ended = [one.ended() for one in both]
    assert 0 in [one.code for one in ended]
    for one in ended:
        assert one.code == 0 or "is being written by another ens; wait for it" in one.said
    follows = dict(zip(kept, [*list(kept)[1:], ""], strict=True))[stage]
    assert differing(tiny.holds(), expected[follows]) == []
