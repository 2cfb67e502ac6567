"""Run a comparison from the command line, with errors as in `ens`: one line, exit code 2."""

import sys

import click

from evaluation.core.errors import EnsError
from evaluation.core.os_errors import describe


def run_command(command: click.Command, module: str) -> None:
    """Run a command with the arguments of the process, and exit.

    Args:
        command: reads options, prints its result.
        module: what stands after `python -m`.
    """
    try:
        command.main(prog_name=f"python -m {module}", standalone_mode=False)
    except EnsError as error:
        _exit(str(error))
    except click.UsageError as error:
        _exit(f"{error.format_message().rstrip('.')}; see `python -m {module} --help`")
    except (click.Abort, KeyboardInterrupt):
        _exit("stopped")
    except OSError as error:
        reason = describe(error)
        if reason is None:
            raise
        _exit(reason)


def _exit(reason: str) -> None:
    click.echo(f"ens: {' '.join(reason.split())}", err=True)
    sys.exit(2)
