"""`ens audit`: two candidates under every protocol, and what the gain is made of."""

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
)

FROM_FILES = "with files give --target, --pred twice and --classes, and no candidates"


@click.command("audit")
@click.argument("candidates", nargs=-1, metavar="[A B]")
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@run_option
@click.option("--target", type=FILE, help="With files: true label maps, .npy or .npz.")
@click.option(
    "--pred", "preds", type=FILE, multiple=True, help="With files: label maps, A's, then B's."
)
@click.option("--classes", type=click.IntRange(2, 255), help="With files: how many classes.")
@ignore_option
@json_option
def command(
    candidates: tuple[str, ...],
    split: str,
    run_path: Path | None,
    target: Path | None,
    preds: tuple[Path, ...],
    classes: int | None,
    ignore: int,
    as_json: bool,
) -> None:
    """Split the gain from A to B, under every protocol, into pixels and denominator.

    A and B are candidates of a run. "Pixels" is what the classes' IoUs gained; "denominator" is
    what came of averaging over fewer or other classes, which no pixel is better for.
    """
    from ensemble.pipeline.scoring.audit import as_text, audit_files, audit_run

    if target or preds:
        if not target or len(preds) != 2 or not classes or candidates:
            raise click.UsageError(FROM_FILES)
        refuse_with_files("--target", "run_path", "split")
        document = audit_files(target, (preds[0], preds[1]), classes=classes, ignore=ignore)
    elif len(candidates) != 2:
        raise click.UsageError(f"{len(candidates)} candidates; expected two: A and B")
    else:
        refuse_in_run("--target", "classes", "ignore")
        names = (candidates[0], candidates[1])
        document = audit_run(resolve_run(run_path), names, split=split, log=log)
    print_result(as_text(document), document, as_json=as_json)
