"""Scores of candidates: leaderboards, metrics, audits."""
