"""`ens members`: what each member of a run is worth, and what can be trained.

`ens members uncertainty`: the images on which the ensemble is least sure.
"""

from dataclasses import asdict
from pathlib import Path

import click
from click.core import ParameterSource

from ensemble.cli.options import (
    FILE,
    json_option,
    log,
    print_result,
    resolve_run,
    run_option,
)


@click.command("uncertainty", short_help="Rank images by how unsure the members are.")
@run_option
@click.option("--split", default="oof", show_default=True, help="Of which images; needs no target.")
@click.option("--out", required=True, type=FILE, metavar="DIR", help="The new folder.")
@click.option(
    "--by",
    type=click.Choice(["entropy", "mutual_information"]),
    default="entropy",
    show_default=True,
    help="Rank by all uncertainty, or by the members' disagreement alone.",
)
@click.option(
    "--count", type=click.IntRange(1, 100), default=20, show_default=True, help="How many to draw."
)
@json_option
def uncertainty(
    run_path: Path | None, split: str, out: Path, by: str, count: int, as_json: bool
) -> None:
    """Rank images by how unsure the mean of the members is, and draw the first."""
    from ensemble.pipeline.analysis.uncertainty import as_text, rank_images

    run = resolve_run(run_path)
    document = rank_images(run, split=split, out=out, by=by, count=count, log=log)
    print_result(as_text(document), document, as_json=as_json)


@click.group("members", invoke_without_command=True)
@run_option
@click.option(
    "--split",
    default="oof",
    show_default=True,
    help="Split on which they are valued; with oof, validation is left to examine the choice.",
)
@click.option(
    "--circles",
    type=click.IntRange(min=2),
    default=4,
    show_default=True,
    help="With more than 8 members: random circles that Shapley values are drawn from.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.002,
    show_default=True,
    help="Largest loss of mIoU for which members are dropped.",
)
@click.option(
    "--growth", type=FILE, metavar="F.svg", help="Draw the score by the number of members."
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    run_path: Path | None,
    split: str,
    circles: int,
    tolerance: float,
    growth: Path | None,
    as_json: bool,
) -> None:
    """Tell which members of a run matter: scores, worth to the ensemble, costs, whom to drop."""
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    from ensemble.pipeline.analysis.worth import as_text, draw_growth, value_members

    run = resolve_run(run_path)
    document = value_members(run, split=split, circles=circles, tolerance=tolerance, log=log)
    if growth is not None:
        draw_growth(document, growth)
    kept = ",".join(document["advice"]["keep"])
    then = f"ens fuse --run {run.path} --strategy mean --members {kept} --name kept"
    if not document["advice"]["drop"]:
        then = f"ens members uncertainty --run {run.path} --out unsure"
    print_result(as_text(document), document, as_json=as_json, then=then)


def _refuse_options(context: click.Context) -> None:
    """Refuse options before a subcommand, which would not hear of them."""
    for name in context.params:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            verb = context.invoked_subcommand
            raise click.UsageError(f"give options after {verb!r}: `ens members {verb} --help`")


@command.command("list")
@json_option
def list_members(as_json: bool) -> None:
    """List every architecture with its parameters and multiply-adds for a grey 64 x 128 image."""
    from members.model_costs import zoo

    found = zoo()
    width = max(len(cost.name) for cost in found)
    lines = [f"{'architecture':{width}}  parameters  multiply-adds"]
    lines += [
        f"{cost.name:{width}}  {cost.parameters / 1e6:8.2f} M  {cost.multiply_adds / 1e6:11.0f} M"
        for cost in found
    ]
    document = {"architectures": [asdict(cost) for cost in found]}
    print_result(
        "\n".join(lines), document, as_json=as_json, then="ens train-members --member unet"
    )


command.add_command(uncertainty)
