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
    """Show what a run holds, what is stale or missing, and its size."""
    from ensemble.pipeline.workflow.status import (
        format_status,
        next_command,
        status,
        status_to_dict,
    )

    run = resolve_run(run_path)
    parts = status(run)
    then = next_command(run, parts)
    print_result(format_status(run, parts), status_to_dict(run, parts), as_json=as_json, then=then)
