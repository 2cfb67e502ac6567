"""The parts of `ens bench fuse`: each compares, side by side, ways of doing the same.

A part takes the `Size` and an empty folder, which is removed after it. It returns what belongs in
the document: `sides`, figures of each side by its name, and what was the same for all of them.
"""

from evaluation.ground.specs import Table

PARTS = Table(
    "part",
    {
        "files": "ensemble.pipeline.bench.fuse.files:files",
        "memory": "ensemble.pipeline.bench.fuse.memory:memory",
        "labels": "ensemble.pipeline.bench.fuse.labels:labels",
        "steps": "ensemble.pipeline.bench.fuse.steps:steps",
        "stacking": "ensemble.pipeline.bench.fuse.stacking:stacking",
        "staple": "ensemble.pipeline.bench.fuse.staple:staple",
        "peak": "ensemble.pipeline.bench.fuse.peak:peak",
    },
)
