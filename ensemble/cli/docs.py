"""`ens docs`: explain a term."""

import click

from ensemble.cli.options import json_option, print_result
from evaluation.formatting import format_columns
from evaluation.glossary import explain, terms


@click.command("docs")
@click.argument("term", nargs=-1)
@json_option
def command(term: tuple[str, ...], as_json: bool) -> None:
    """Explain a TERM in a few lines, such as: ens docs model confidence set.

    Without a term all of them are listed.
    """
    if term:
        found = explain(" ".join(term))
        document = {"term": found.name, "also": list(found.aliases), "text": found.text}
        print_result(f"{found.name}\n\n{found.text}", document, as_json=as_json)
        return
    listed = [[each.name, ", ".join(each.aliases)] for each in terms()]
    text = "\n".join(format_columns([["term", "also"], *listed], left=2, rule=True))
    document = {"terms": [each.name for each in terms()]}
    print_result(text, document, as_json=as_json, then="ens docs TERM")
