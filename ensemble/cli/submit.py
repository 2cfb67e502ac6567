"""`ens submit`: a candidate's label maps as CSV."""

from pathlib import Path

import click

from ensemble.cli.options import FILE, chosen_run, json_option, run_option, show, tell


@click.command("submit")
@click.option("--candidate", required=True, metavar="C", help="Whose label maps.")
@click.option("--split", default="test", show_default=True, help="Of which pictures.")
@click.option("--out", required=True, type=FILE, metavar="F.csv", help="Where to.")
@run_option
@json_option
def command(candidate: str, split: str, out: Path, run_path: Path | None, as_json: bool) -> None:
    """Write label maps as CSV: `id`, then one column a pixel, row by row."""
    from ensemble.pipeline.submission import submit

    run = chosen_run(run_path)
    pictures, ignored = submit(run, candidate, split, out)
    if ignored:
        tell(
            f"warning: {ignored:.2%} of the pixels got the ignored class, which costs score under"
            " every protocol; a chain with suppress_background leaves none"
        )
    document = {"out": str(out), "pictures": pictures, "ignored_share": ignored}
    show(f"{out}: {pictures} pictures, read back", document, as_json=as_json, then="ens status")
