"""`ens postprocess`: turn maps into label maps through a chain, in a run or from plain files."""

from pathlib import Path
from typing import Any

import click

from ensemble.cli.completion import complete_source, complete_spec
from ensemble.cli.options import (
    FILE,
    SpecCommand,
    json_option,
    label_options,
    log,
    memory_option,
    options_of_source,
    print_result,
    resolve_run,
    run_option,
    workers_options,
)

RUN_OPTIONS = ("run_path", "fusion", "name")
FILE_OPTIONS = ("maps", "out", "images", "fit_maps", "fit_target", "fit_images", "logits", "labels")


@click.command("postprocess", cls=SpecCommand, tables={"steps": "postproc.steps:STEPS"})
@click.option(
    "--fusion",
    metavar="N",
    help="Fusion or member to post-process.",
    shell_complete=complete_source,
)
@click.option(
    "--chain",
    shell_complete=complete_spec("postproc.steps:STEPS"),
    required=True,
    metavar="SPEC",
    help="Such as 'suppress_background|crf(iterations=5)'; empty for the plain argmax"
    " (the most probable class).",
)
@click.option("--name", metavar="C", help="Name of the candidate; by default made of both.")
@run_option
@click.option("--maps", type=FILE, help="Without a run: the probability maps, a file or a folder.")
@click.option("--images", type=FILE, help="With --maps: the images, for steps that need them.")
@click.option("--fit-maps", type=FILE, help="With --maps: held-out maps, for steps that learn.")
@click.option("--fit-target", type=FILE, help="With --maps: ground truth of the held-out maps.")
@click.option("--fit-images", type=FILE, help="With --maps: images of the held-out maps.")
@click.option("--out", type=FILE, help="With --maps: label maps, .npy or a folder of .png.")
@click.option("--logits", is_flag=True, help="With --maps: all maps are logits; take the softmax.")
@label_options
@workers_options
@memory_option
@json_option
def command(chain: str, as_json: bool, **options: Any) -> None:
    """Turn probability maps into label maps through a chain of steps.

    In a run, steps that learn (class_bias) are fitted on the out-of-fold maps (out-of-fold:
    predicted by the fold model that did not train on the image): for out-of-fold images fold by
    fold on the other folds, for other splits on all.
    """
    from_files = bool(options["maps"])
    postprocess = _postprocess_file if from_files else _postprocess_in_run
    text, document, then = postprocess(
        chain,
        **options_of_source(
            options,
            from_files=from_files,
            file_option="--maps",
            file_options=FILE_OPTIONS,
            run_options=RUN_OPTIONS,
        ),
    )
    print_result(text, document, as_json=as_json, then=then)


def _postprocess_file(
    chain: str, *, maps: Path, out: Path | None, **options: Any
) -> tuple[str, dict[str, Any], str]:
    from ensemble.cli.plain_files import postprocess_file

    document = postprocess_file(maps, chain, out=out, **options)
    by = document.get("fitted", document["chain"]) or "argmax"
    then = f"ens score --target TARGET.npy --pred {out} --classes {document['classes']}"
    return f"{out}: {document['images']} label maps by {by}", document, then


def _postprocess_in_run(
    chain: str, *, run_path: Path | None, fusion: str | None, name: str | None
) -> tuple[str, dict[str, Any], str]:
    if not fusion:
        raise click.UsageError("give --fusion NAME (in a run), or --maps FILE with --out FILE")
    from ensemble.pipeline.candidates.chains import read_fitted_chain
    from ensemble.pipeline.candidates.postprocess import postprocess_run

    run = resolve_run(run_path)
    candidate = postprocess_run(run, fusion, chain, name=name, log=log)
    document: dict[str, Any] = {
        "run": str(run.path),
        "candidate": candidate,
        "of": fusion,
        "chain": chain,
    }
    text = f"{run.path}: candidate {candidate}"
    fitted = read_fitted_chain(run, candidate)
    if fitted is not None:
        document["fitted"] = fitted
        text += f", fitted: {fitted['chain']}"
    return text, document, f"ens score --run {run.path}"
