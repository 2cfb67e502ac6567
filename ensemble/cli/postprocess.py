"""`ens postprocess`: maps into label maps through a chain, in a run or from plain files."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    ignore_option,
    json_option,
    log,
    print_result,
    refuse_in_run,
    refuse_with_files,
    resolve_run,
    run_option,
    workers_options,
)

OF_FILES = ("out", "images", "fit_maps", "fit_target", "fit_images", "ignore")


@click.command("postprocess")
@click.option("--fusion", metavar="N", help="The fusion or member to post-process.")
@click.option(
    "--chain",
    required=True,
    metavar="SPEC",
    help="Such as 'suppress_background|crf(iterations=5)'; empty for the plain argmax.",
)
@click.option("--name", metavar="C", help="Name of the candidate; by default made of both.")
@run_option
@click.option("--maps", type=FILE, help="Without a run: the maps, .npy or .npz.")
@click.option("--images", type=FILE, help="With --maps: the images, for steps that use them.")
@click.option("--fit-maps", type=FILE, help="With --maps: held-out maps, for steps that learn.")
@click.option("--fit-target", type=FILE, help="With --maps: target of the held-out maps.")
@click.option("--fit-images", type=FILE, help="With --maps: images of the held-out maps.")
@click.option("--out", type=FILE, help="With --maps: the label maps, .npy.")
@ignore_option
@workers_options
@json_option
def command(
    fusion: str | None,
    chain: str,
    name: str | None,
    run_path: Path | None,
    maps: Path | None,
    images: Path | None,
    fit_maps: Path | None,
    fit_target: Path | None,
    fit_images: Path | None,
    out: Path | None,
    ignore: int,
    as_json: bool,
) -> None:
    """Turn maps into label maps through a chain of steps.

    In a run, steps that learn (class_bias) are fitted on the out-of-fold maps: for oof itself fold
    by fold on the other folds, for other splits on all.
    """
    if maps:
        refuse_with_files("--maps", "run_path", "fusion", "name")
        from ensemble.pipeline.scoring.plain_files import postprocess_file

        document = postprocess_file(
            maps,
            chain,
            images=images,
            out=out,
            fit_maps=fit_maps,
            fit_target=fit_target,
            fit_images=fit_images,
            ignore=ignore,
        )
        by = document.get("fitted", document["chain"]) or "argmax"
        text = f"{out}: {document['images']} label maps by {by}"
        then = f"ens score --target TARGET.npy --pred {out} --classes {document['classes']}"
        print_result(text, document, as_json=as_json, then=then)
        return
    refuse_in_run("--maps", *OF_FILES)
    if not fusion:
        raise click.UsageError("give --fusion NAME (in a run), or --maps FILE with --out FILE")
    from ensemble.pipeline.candidates.chains import read_fitted_chain
    from ensemble.pipeline.candidates.postprocess import postprocess_run

    run = resolve_run(run_path)
    candidate = postprocess_run(run, fusion, chain, name=name, log=log)
    document = {"run": str(run.path), "candidate": candidate, "of": fusion, "chain": chain}
    text = f"{run.path}: candidate {candidate}"
    fitted = read_fitted_chain(run, candidate)
    if fitted is not None:
        document["fitted"] = fitted
        text += f", fitted: {fitted['chain']}"
    print_result(text, document, as_json=as_json, then=f"ens score --run {run.path}")
