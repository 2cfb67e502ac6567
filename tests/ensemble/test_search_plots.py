"""The history of a search, as it is drawn."""

import pytest
from optuna.trial import TrialState, create_trial

from ensemble.pipeline.search import plots


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw trials, and return the figure's axes."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))

    def draw(*states_and_scores):
        trials = []
        for number, (state, score) in enumerate(states_and_scores):
            trial = create_trial(state=state, value=score)
            trial.number = number
            trials.append(trial)
        plots.draw_history(tmp_path / "history.png", trials)
        return figures[0].axes[0]

    return draw


def test_trials_without_a_score_are_marks_at_the_axis(drawn):
    axes = drawn(
        (TrialState.COMPLETE, 0.5),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
        (TrialState.COMPLETE, 0.25),
        (TrialState.COMPLETE, 0.75),
    )
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["complete"].get_xydata().tolist() == [[0, 0.5], [3, 0.25], [4, 0.75]]
    assert list(lines["highest so far"].get_ydata()) == [0.5, 0.5, 0.75]
    assert list(lines["pruned, no score"].get_xdata()) == [1]
    assert list(lines["failed, no score"].get_xdata()) == [2]
    assert lines["failed, no score"].get_transform() != axes.transData


def test_what_did_not_happen_has_no_mark(drawn):
    axes = drawn((TrialState.COMPLETE, 0.5))
    labels = {line.get_label() for line in axes.get_lines()}
    assert labels == {"complete", "highest so far"}
