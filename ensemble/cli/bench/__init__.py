"""`ens bench`: how fast, measured side by side on this machine; one file a measurement."""

import click

from ensemble.cli.bench.crf import crf
from ensemble.cli.bench.fuse import fuse
from ensemble.cli.bench.morphology import morphology
from ensemble.cli.bench.postproc import postproc
from ensemble.cli.bench.scale import scale
from ensemble.cli.bench.score import score


@click.group("bench")
def command() -> None:
    """Measure on this machine: ways to do the same job side by side, in turns."""


for measurement in (fuse, crf, postproc, morphology, scale, score):
    command.add_command(measurement)
