"""`ens status`: what a run holds."""

from pathlib import Path

import click

from ensemble.cli.options import (
    json_option,
    print_result,
    resolve_run,
    run_option,
)


@click.command("status")
@run_option
@json_option
def command(run_path: Path | None, as_json: bool) -> None:
    """Tell what a run holds, what is stale or missing, and its size."""
    from ensemble.pipeline.workflow.status import (
        as_document,
        as_text,
        next_command,
        status,
    )

    run = resolve_run(run_path)
    parts = status(run)
    then = next_command(run, parts)
    print_result(as_text(run, parts), as_document(run, parts), as_json=as_json, then=then)
