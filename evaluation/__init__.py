"""Scores of label maps: protocols, metrics, intervals, tests, leaderboards, reports."""
