"""Scores of chains under two protocols, each gain with its paired interval."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.ground.arrays import Counts
from evaluation.leaderboard import Candidate, Leaderboard, compare
from evaluation.scores import ScoredPictures, number
from evaluation.table import interval_document
from members.data.dataset import DataSet

JUDGES = ("masked", "keras")
"""The score, and the one that a suppressed background raises without a pixel's being right."""


def boards_of(
    counts: Mapping[str, Counts], data: DataSet, split: str, *, seed: int
) -> dict[str, Leaderboard]:
    """Compare candidates with the first of them, under each protocol.

    Args:
        counts: per picture, by name; all gains are over the first.
        data: the pictures.
        split: their name.
        seed: of what the comparison draws.

    Returns:
        A leaderboard a protocol, by name.
    """
    groups = data.group_names()
    first, *_ = counts
    candidates = [
        Candidate(name, ScoredPictures(table, data.ids, groups), is_member=name == first)
        for name, table in counts.items()
    ]
    return {
        protocol: compare(
            candidates,
            data.classes,
            rng=np.random.default_rng(seed),
            split=split,
            protocol=protocol,
        )
        for protocol in JUDGES
    }


def scores_document(boards: Mapping[str, Leaderboard], name: str) -> dict[str, Any]:
    """Give a candidate's score, gain and interval under each protocol as a JSON document."""
    return {protocol: _row(board, name) for protocol, board in boards.items()}


def _row(board: Leaderboard, name: str) -> dict[str, Any]:
    row = next(row for row in board.rows if row.name == name)
    return {
        "miou": number(row.examined),
        "gain": number(row.gain),
        "interval": interval_document(row.gain_interval),
        "iou": dict(row.iou),
    }
