"""`ens members`: what members are worth, where they are unsure, and what can be trained."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    memory_option,
    print_result,
    resolve_run,
    run_option,
)
from members.model_costs import architecture_costs

DEFAULT = "worth"


class MembersGroup(click.Group):
    """Runs `worth` if no subcommand is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `worth` before options."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            named = [word for word in args if word in self.commands]
            if named:
                raise click.UsageError(
                    f"give options after {named[0]!r}: `ens members {named[0]} --help`", ctx
                )
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group("members", cls=MembersGroup)
def command() -> None:
    """Show what members are worth, where they are unsure, and what can be trained.

    Without a subcommand, `worth`.
    """


@command.command("worth", short_help="Scores, worth to the ensemble and costs of each member.")
@run_option
@click.option(
    "--split",
    default="oof",
    show_default=True,
    help="Split to evaluate on; with oof (out-of-fold: the training images, each predicted by the"
    " fold model that did not train on it), validation stays untouched for the final evaluation.",
)
@click.option(
    "--circles",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="With more than 8 members: number of sampled permutations behind the Shapley values.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.002,
    show_default=True,
    help="Largest loss of score for which members are dropped.",
)
@click.option(
    "--growth", type=FILE, metavar="F.svg", help="Draw the score by the number of members."
)
@memory_option
@json_option
def worth(
    run_path: Path | None,
    split: str,
    circles: int,
    tolerance: float,
    growth: Path | None,
    as_json: bool,
) -> None:
    """Show scores, worth to the ensemble and costs of each member, and which to drop."""
    from ensemble.pipeline.analysis.worth import draw_growth, estimate_worth, format_worth

    run = resolve_run(run_path)
    report = estimate_worth(run, split=split, circles=circles, tolerance=tolerance, log=log)
    if growth is not None:
        draw_growth(report, growth)
    kept = ",".join(report.advice.keep)
    then = f"ens fuse --run {run.path} --strategy mean --members {kept} --name kept"
    if not report.advice.drop:
        then = f"ens members uncertainty --run {run.path} --out unsure"
    print_result(format_worth(report), report.to_dict(), as_json=as_json, then=then)


@command.command("uncertainty", short_help="Rank images by the uncertainty of the members.")
@run_option
@click.option(
    "--split", default="oof", show_default=True, help="Split to use; labels are not needed."
)
@click.option("--out", required=True, type=FILE, metavar="DIR", help="The new folder.")
@click.option(
    "--by",
    type=click.Choice(["entropy", "mutual_information"]),
    default="entropy",
    show_default=True,
    help="Rank by total uncertainty, or by the members' disagreement alone.",
)
@click.option(
    "--count",
    type=click.IntRange(1, 100),
    default=20,
    show_default=True,
    help="Number of images to draw.",
)
@memory_option
@json_option
def uncertainty(
    run_path: Path | None, split: str, out: Path, by: Any, count: int, as_json: bool
) -> None:
    """Rank images by the uncertainty of the members' mean, and draw the highest."""
    from ensemble.pipeline.analysis.uncertainty import format_uncertainty, rank_images

    run = resolve_run(run_path)
    report = rank_images(run, split=split, out=out, by=by, count=count, log=log)
    print_result(format_uncertainty(report), report.to_dict(), as_json=as_json)


@command.command("list", short_help="Architectures that can be trained, with their costs.")
@json_option
def list_members(as_json: bool) -> None:
    """List every architecture with its parameters and multiply-adds for a grey 64 x 128 image."""
    costs = architecture_costs()
    width = max(len(cost.name) for cost in costs)
    lines = [f"{'architecture':{width}}  parameters  multiply-adds"]
    lines += [
        f"{cost.name:{width}}  {cost.parameters / 1e6:8.2f} M  {cost.multiply_adds / 1e6:11.0f} M"
        for cost in costs
    ]
    document = {"architectures": [asdict(cost) for cost in costs]}
    then = "ens train-members --member unet"
    print_result("\n".join(lines), document, as_json=as_json, then=then)
