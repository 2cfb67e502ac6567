"""Compare two candidates under every protocol, and split the gain into its parts."""

from dataclasses import asdict
from typing import Any

from ensemble.pipeline.candidates.postprocess import read_labels
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.open_run import run_metric
from ensemble.pipeline.scoring.score import counts_of
from evaluation.audit import GainDecomposition, audit
from evaluation.core.classes import Classes
from evaluation.core.progress import Log
from evaluation.core.run_folder import Run
from evaluation.core.types import Counts
from evaluation.mcnemar import count_discordant, mcnemar
from evaluation.protocols import build_protocol
from evaluation.run_metric import reported_protocols
from evaluation.scores import nan_to_none, score
from members.data.dataset import DataSet

Document = dict[str, Any]


def audit_run(run: Run, names: tuple[str, str], *, split: str, log: Log) -> Document:
    """Audit the gain of the second candidate over the first; what is stale is made again before.

    Raises:
        BadRun: no such candidate or split, or a split without target.
    """
    metric = run_metric(run)
    first, second = counts_of(run, names, split=split, log=log)
    counts = first.counts, second.counts
    classes, data = run_classes(run), DataSet.load(run.data(split))
    labels = [
        read_labels(run, name if name in run.candidates() else f"{name}_argmax", split)
        for name in names
    ]
    discordant = count_discordant(data.target(), *labels, ignore=classes.ignore)
    test = mcnemar(discordant, data.group_names())
    document = _document(names, counts, classes, metric)
    return {"split": split} | document | {"mcnemar": test.to_dict()}


def _document(
    names: tuple[str, str], counts: tuple[Counts, Counts], classes: Classes, metric: str
) -> Document:
    document = {
        "before": names[0],
        "after": names[1],
        "images": len(counts[0]),
        "protocols": {
            name: _gain(audit(build_protocol(name, classes), *counts, classes.ignore))
            for name in reported_protocols(metric)
        },
    }
    for each in counts:
        warning = score(each, [], classes).get("warning")
        if warning:
            document["warning"] = warning
    return document


def _gain(gain: GainDecomposition) -> Document:
    before, after = gain.averaged
    numbers = {
        name: nan_to_none(value) for name, value in asdict(gain).items() if name != "averaged"
    }
    return numbers | {
        "gain": nan_to_none(gain.after - gain.before),
        "averaged": {"before": nan_to_none(before), "after": nan_to_none(after)},
    }
