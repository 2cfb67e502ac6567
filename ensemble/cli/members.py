"""`ens members`: what can be trained."""

from dataclasses import asdict

import click

from ensemble.cli.options import json_option, show


@click.group("members")
def command() -> None:
    """Tell what can be trained, and what it costs."""


@command.command("list")
@json_option
def list_members(as_json: bool) -> None:
    """List every architecture with its parameters and multiply-adds for a grey 64 x 128 picture."""
    from members.zoo import zoo

    found = zoo()
    width = max(len(cost.name) for cost in found)
    lines = [f"{'architecture':{width}}  parameters  multiply-adds"]
    lines += [
        f"{cost.name:{width}}  {cost.parameters / 1e6:8.2f} M  {cost.multiply_adds / 1e6:11.0f} M"
        for cost in found
    ]
    document = {"architectures": [asdict(cost) for cost in found]}
    show("\n".join(lines), document, as_json=as_json, then="ens train-members --member unet")
