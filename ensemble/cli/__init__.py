"""The `ens` command. Each command reads options, calls one function, and prints its result."""

import io
import sys
from importlib import import_module

import click
from click.shell_completion import CompletionItem

from ensemble.cli.options import current_name
from evaluation.core.errors import EnsError
from evaluation.core.os_errors import describe

# name -> help; a command's module is imported when it is called, so that `ens --help` is fast
COMMANDS = {
    "demo": "run the whole pipeline on the built-in sample",
    "data": "inspect, clean, refine and import data sets",
    "members": "list what can be trained; what each member is worth and costs",
    "train-members": "train networks and write their probability maps",
    "search": "search the options of a recipe, with Optuna",
    "search-loss": "cross-validate mixtures of losses",
    "predict": "run trained members on another set of images",
    "import": "take maps of other networks as a member",
    "plan": "forecast time, disk and memory, and what would stop a run",
    "fuse": "combine the members' maps into one",
    "postprocess": "turn maps into label maps through a chain of steps",
    "tune-postproc": "search for a chain, and evaluate the search by nested cross-validation",
    "score": "score candidates, or label maps in files, and compare them",
    "compare": "rank scored candidates: which may be best, gaps, costs",
    "audit": "split a gain into pixels and denominator",
    "report": "write one HTML page: leaderboard, gain per stage, images",
    "overlay": "draw a candidate's labels over the images",
    "submit": "write label maps as CSV, run lengths or PNG",
    "freeze": "pack a candidate with all it needs into one folder",
    "apply": "label new images with a frozen candidate",
    "run": "do everything an experiment file describes",
    "status": "what a run holds: current, stale or missing, and its size",
    "docs": "explain a term, such as out-of-fold",
    "bench": "measure speed, memory and gains of chains on this machine",
}

MODULES = {"import": "import_maps"}
"""Modules of commands that are keywords of Python."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        name = MODULES.get(cmd_name, cmd_name.replace("-", "_"))
        module = import_module(f"ensemble.cli.{name}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without importing them."""
        if not incomplete or incomplete[0].isalnum():
            items = COMMANDS.items()
            return [CompletionItem(n, help=text) for n, text in items if n.startswith(incomplete)]
        return super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands, in the order of work"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": current_name,
    },
)
@click.version_option(package_name="ens", message="ens %(version)s")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    help="Load your own architectures, losses, steps, ... from this module; repeatable.",
)
def ens(plugins: tuple[str, ...]) -> None:
    """Train, fuse, post-process and score segmentation networks, and show which gain is real.

    A member is a trained network; its probability maps hold the probability of each class at each
    pixel. A fusion combines the maps of several members. A candidate is a member or fusion with a
    chain of post-processing steps, which turns maps into label maps; candidates are what is scored.
    A run is a folder that holds all of these.

    Out-of-fold (oof) maps of the training images are predicted by the fold model that did not train
    on the image: what learns is fitted on them, and candidates are chosen by them. The ignored
    class (such as background) is not scored.
    """
    from evaluation.core.plugins import load_plugins

    load_plugins(plugins)


def main() -> None:
    """Run the command; exit 0 on success, 2 for a user's mistake (one line), 1 for our bug."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run the command with arguments and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks must not end a command that did its work.
            stream.reconfigure(errors="replace")
    try:
        ens.main(args=arguments, prog_name="ens", standalone_mode=False)
    except EnsError as error:
        return _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as help_page:
        click.echo(help_page.format_message())
        return 2
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "ens"
        return _refuse(f"{error.format_message().rstrip('.')}; see `{where} --help`")
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _refuse("stopped; finished work is kept: the same command resumes it")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone
        return 0
    except MemoryError as error:
        return _refuse(f"out of memory ({error}); use smaller images, files or networks")
    except RuntimeError as error:
        failure = _device_error(error)
        if failure is None:
            raise
        return _refuse(str(failure))
    except OSError as error:
        reason = describe(error)
        if reason is None:
            raise
        return _refuse(reason)
    return 0


def _device_error(error: RuntimeError) -> EnsError | None:
    """Return what to report if a GPU failed; commands that use none need not import torch."""
    if "torch" not in sys.modules:
        return None
    from members.devices import device_error

    return device_error(error)


def _refuse(reason: str) -> int:
    click.echo("ens: " + " ".join(reason.split()), err=True)
    return 2
