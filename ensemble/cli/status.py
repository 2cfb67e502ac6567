"""`ens status`: what a run holds."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, chosen_run, json_option, show


@click.command("status")
@click.argument("run_path", type=FILE, metavar="[RUN]", required=False)
@json_option
def command(run_path: Path | None, as_json: bool) -> None:
    """Tell what is there, what is stale, what is missing, and what it weighs."""
    from ensemble.pipeline.state import CURRENT, as_document, as_text, status

    run = chosen_run(run_path)
    parts = status(run)
    whole = all(part.state == CURRENT for part in parts)
    then = f"ens score --run {run.path}" if whole else f"ens run {run.experiment} --run {run.path}"
    show(as_text(run, parts), as_document(run, parts), as_json=as_json, then=then)
