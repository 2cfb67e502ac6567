"""Plain files of `fuse`, `postprocess`, `score` and `audit`: the Python API with files in and out.

Messages name the command's options: `--fit-maps` where the Python API says `fit_maps`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ensemble.api import audit, classes_of_labels, score
from ensemble.api.inputs import is_array_file
from ensemble.strategies import Missing
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.label_options import LabelOptions

PARAMETER = re.compile(
    r"`(maps|fit_maps|fit_target|images|fit_images|classes|ignore|logits|missing)`"
)


def fuse_files(
    maps: Sequence[Path],
    strategy: str,
    *,
    out: Path | None,
    fit_maps: Sequence[Path],
    fit_target: Path | None,
    images: Path | None = None,
    fit_images: Path | None = None,
    labels: LabelOptions,
    logits: bool = False,
    missing: Missing = "refuse",
    seed: int,
) -> dict[str, Any]:
    """Fuse maps in files into a `.npy` of float32, or a folder of them, as `ensemble.fuse` does.

    Returns:
        A summary; for a calibrated strategy with the calibration error before and after, `missing`
        where members lack images, and `decision` where the fused maps decide by the metric.

    Raises:
        BadSpec: also for options that the strategy does not use.
    """
    from ensemble.api.fusion import fit_fusion
    from ensemble.strategy import check_strategy

    with _option_names():
        check_strategy(strategy)
        path = _checked_out(out)
        fusion = fit_fusion(
            maps,
            strategy,
            fit_maps=fit_maps,
            fit_target=fit_target,
            images=images,
            fit_images=fit_images,
            labels=labels,
            logits=logits,
            missing=missing,
            seed=seed,
            measure_calibration=True,
            refuse_unused=True,
        )
        fusion.fuse(path)
    first = fusion.members[0]
    document: dict[str, Any] = {
        "out": str(path),
        "images": len(first),
        "classes": first.num_classes,
        "strategy": strategy,
    }
    if fusion.aligned.lacking:
        document["missing"] = {
            "rule": missing,
            "lacking": fusion.aligned.lacking,
            "note": fusion.aligned.describe(),
        }
    if fusion.decision is not None:
        document["decision"] = fusion.decision
    if fusion.calibration is not None:
        document["calibration"] = fusion.calibration
    return document


def postprocess_file(
    maps: Path,
    chain: str,
    *,
    images: Path | None,
    out: Path | None,
    fit_maps: Path | None = None,
    fit_target: Path | None = None,
    fit_images: Path | None = None,
    labels: LabelOptions,
    logits: bool = False,
) -> dict[str, Any]:
    """Post-process maps into label maps: a `.npy` of uint8, or a folder of `.png` files.

    Label maps hold the values that masks store for the classes.

    Returns:
        A summary; a chain that has learned is under `fitted`, as `--chain` takes it.

    Raises:
        BadSpec: also for options that the chain does not use.
    """
    from ensemble.api.postprocessing import fit_array_chain

    with _option_names():
        path = _checked_out(out)
        fitted = fit_array_chain(
            maps,
            chain,
            images=images,
            fit_maps=fit_maps,
            fit_target=fit_target,
            fit_images=fit_images,
            labels=labels,
            logits=logits,
        )
        if not fitted.learned and (fit_maps or fit_target or fit_images):
            raise BadSpec(
                f"chain '{fitted.chain}' has nothing to learn; leave `fit_maps`, `fit_target` and"
                " `fit_images` out"
            )
        fitted.label(path)
    document = {
        "out": str(path),
        "images": len(fitted.maps),
        "classes": fitted.maps.num_classes,
        "chain": fitted.unfitted,
    }
    return document | ({"fitted": str(fitted.chain)} if fitted.learned else {})


def score_files(
    target: Path, pred: Path, *, protocol: str | None, labels: LabelOptions
) -> dict[str, Any]:
    """Score label maps in files as `ensemble.score` does.

    Args:
        target: ground truth label maps.
        pred: predicted ones.
        protocol: spec; by default every definition of mean IoU, and before them the default metric
            of the classes.
        labels: what is said about classes and values.

    Raises:
        BadSpec: an unknown protocol.
        BadLabels: labels outside the classes, or shapes that differ; names the files.
    """
    from evaluation.protocols import ALL_PROTOCOLS
    from evaluation.run_metric import default_metric, reported_protocols
    from evaluation.scores import score as score_document

    if protocol is not None:
        ALL_PROTOCOLS.check(protocol)
    with _option_names():
        classes = classes_of_labels(None, labels, target, [pred])
        protocols = [protocol] if protocol else reported_protocols(default_metric(classes))
        result = score(target, pred, classes=classes, protocol=protocols[0])
    return score_document(result.counts, protocols, classes)


def audit_files(target: Path, preds: tuple[Path, Path], *, labels: LabelOptions) -> dict[str, Any]:
    """Audit label maps in two files by the same target, as `ensemble.audit` does."""
    with _option_names():
        classes = classes_of_labels(None, labels, target, preds)
        return audit(target, *preds, classes=classes).to_dict()


@contextmanager
def _option_names() -> Iterator[None]:
    """Write parameters in errors as options of the command."""
    try:
        yield
    except EnsError as error:
        text = PARAMETER.sub(lambda name: "--" + name[1].replace("_", "-"), str(error))
        raise type(error)(text) from None


def _checked_out(out: Path | None) -> Path:
    if out is None:
        raise BadSpec("--maps was given without --out; name the file to write, such as --out f.npy")
    try:
        is_array_file(out)
    except BadSpec as error:
        raise BadSpec(f"--out {error}") from None
    return out
