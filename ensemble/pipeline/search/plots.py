"""Two plots of a search: its history, and the importance of its options."""

from pathlib import Path

import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from ensemble.pipeline.search.study import quiet
from evaluation.core.files import atomic_file
from evaluation.core.literal_text import literal_text

DPI = 100


@literal_text()
def draw_history(path: Path, trials: list[FrozenTrial], metric: str = "masked mIoU") -> None:
    """Draw the score of each trial and the highest so far; trials without a score are marked.

    Args:
        path: the PNG file.
        trials: those that have ended.
        metric: words for the score.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    numbers = [trial.number for trial in complete]
    scores = np.array([trial.value for trial in complete])
    axes.plot(numbers, scores, "o", color="tab:blue", label="complete")
    highest = np.maximum.accumulate(scores)
    axes.step(numbers, highest, where="post", color="tab:orange", label="highest so far")
    for state, name, colour in (
        (TrialState.PRUNED, "pruned, no score", "tab:gray"),
        (TrialState.FAIL, "failed, no score", "tab:red"),
    ):
        stopped = [trial.number for trial in trials if trial.state == state]
        if stopped:
            # They have no score: marks on the axis, whatever the scale.
            at_axis = axes.get_xaxis_transform()
            axes.plot(stopped, [0.02] * len(stopped), "x", c=colour, label=name, transform=at_axis)
    axes.set(xlabel="trial", ylabel=f"{metric}, held out", title="History of the search")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


@literal_text()
def draw_importance(path: Path, study: optuna.Study) -> tuple[dict[str, float] | None, str]:
    """Draw how much of the scores' variance each option explains alone, in shares of 1.

    Returns:
        The shares, largest first, and an empty text; or None and why they cannot be computed.

    Source: Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    reason = _not_plottable(complete)
    if reason:
        path.unlink(missing_ok=True)
        return None, reason
    with quiet():
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(shares)[::-1], list(shares.values())[::-1], color="tab:blue")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(
        xlim=(0, 1.1),
        xlabel=f"share of what single options explain of the score ({len(complete)} trials)",
        title="Importance of the options",
    )
    _save(figure, path)
    return shares, ""


def _not_plottable(complete: list[FrozenTrial]) -> str:
    if len(complete) < 2:
        return "importance needs two complete trials"
    if len({trial.value for trial in complete}) == 1:
        return "all scores are the same"
    varied = {path for path in complete[0].params if len({t.params[path] for t in complete}) > 1}
    return "" if len(varied) > 1 else "importance needs two options that vary"


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI)
