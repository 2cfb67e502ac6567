"""`ens freeze`: pack a candidate with all that it needs into one folder."""

from pathlib import Path

import click

from ensemble.cli.completion import complete_candidate
from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    print_result,
    resolve_run,
    run_option,
)
from evaluation.core.errors import format_count


@click.command("freeze")
@click.option(
    "--candidate",
    required=True,
    metavar="C",
    help="Candidate to pack; `ens status` lists all.",
    shell_complete=complete_candidate,
)
@click.option(
    "--out",
    required=True,
    type=FILE,
    metavar="DIR",
    help="The package's folder; with --format onnx a .onnx file.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["package", "onnx"]),
    default="package",
    show_default=True,
    help="A folder for `ens apply`, or one ONNX file, which onnxruntime runs without ens.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device of the check: auto, cpu, cuda or cuda:K.",
)
@run_option
@json_option
def command(
    candidate: str, out: Path, form: str, device: str, run_path: Path | None, as_json: bool
) -> None:
    """Pack a candidate into a folder from which `ens apply` labels new images, without the run.

    The package holds weights, recipes, the fitted fusion and chain, class names and checksums.

    Where the run has label maps of a split other than oof (out-of-fold), the package labels a block
    of it again, and pixels that differ are reported.

    --format onnx writes one graph: images in, probabilities and labels out, with normalisation,
    the networks of all folds, the fusion, suppress_background and class_bias. It is run on such a
    split, and labels, score and time are compared with the run's.
    """
    from ensemble.pipeline.package.freeze import freeze, freeze_onnx

    if form == "onnx":
        examined = freeze_onnx(resolve_run(run_path), candidate, out, log=log)
        then = f"ens apply {out} IMAGES --out LABELS.npy"
        print_result(examined.describe(), examined.to_dict(), as_json=as_json, then=then)
        return
    package = freeze(resolve_run(run_path), candidate, out, device=device, log=log)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    document = {"out": str(out), "bytes": size, **package.manifest.model_dump(mode="json")}
    text = (
        f"{out}: {candidate}, {format_count(len(package.networks), 'network')}, {size / 1e6:.1f} MB"
    )
    print_result(text, document, as_json=as_json, then=f"ens apply {out} IMAGES --out LABELS.npy")
