"""`ens score`: score candidates of a run, or label maps in plain files."""

from pathlib import Path

import click

from ensemble.cli.options import (
    FILE,
    chosen_run,
    ignore_option,
    json_option,
    run_option,
    show,
    tell,
)


@click.command("score")
@click.option(
    "--candidate", "candidates", multiple=True, metavar="C", help="Repeatable; by default all."
)
@click.option("--split", default="validation", show_default=True, help="The examined split.")
@click.option(
    "--protocol", metavar="SPEC", help="What decides, by default masked; with files: only this."
)
@run_option
@click.option("--truth", type=FILE, help="With files: true label maps, .npy or .npz.")
@click.option("--guess", type=FILE, help="With files: guessed label maps.")
@click.option("--classes", type=click.IntRange(2, 255), help="With files: how many classes.")
@ignore_option
@json_option
def command(
    candidates: tuple[str, ...],
    split: str,
    protocol: str | None,
    run_path: Path | None,
    truth: Path | None,
    guess: Path | None,
    classes: int | None,
    ignore: int,
    as_json: bool,
) -> None:
    """Score candidates with the ignored class masked, and compare them.

    Candidates are chosen on the out-of-fold pictures and examined once on the split; each gain over
    the highest single member comes with its paired interval.
    """
    if truth or guess:
        if not (truth and guess and classes):
            raise click.UsageError("--truth, --guess and --classes belong together; give all three")
        from ensemble.pipeline.files import score_files
        from evaluation.protocols import PROTOCOLS
        from evaluation.table import scores_text

        protocols = list(PROTOCOLS) if protocol is None else [protocol]
        document = score_files(truth, guess, protocols=protocols, classes=classes, ignore=ignore)
        then = "ens postprocess --maps MAPS.npy --chain suppress_background --out LABELS.npy"
        if "warning" in document:
            tell(f"warning: {document['warning']}")
        show(scores_text(document), document, as_json=as_json, then=then)
        return
    from ensemble.pipeline.scoring import score_run
    from evaluation.table import leaderboard_document, leaderboard_text

    run = chosen_run(run_path)
    board = score_run(run, candidates, split=split, protocol=protocol or "masked", tell=tell)
    chosen = board.chosen or board.rows[0].name
    then = f"ens submit --candidate {chosen} --split test --out F.csv"
    if "test" not in run.splits():
        then = "ens predict --data MORE.npz --split test"
    show(leaderboard_text(board), leaderboard_document(board), as_json=as_json, then=then)
