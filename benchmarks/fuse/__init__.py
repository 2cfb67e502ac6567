"""The parts of `ens bench fuse`: each compares, side by side, ways of doing the same.

A part takes the `Size` and an empty folder, which is removed after it. It returns what belongs in
the document: `sides`, figures of each side by its name, and what was the same for all of them.
"""

from evaluation.core.specs import Table

PARTS = Table(
    "part",
    {
        "files": "benchmarks.fuse.in_memory:files",
        "memory": "benchmarks.fuse.in_memory:memory",
        "labels": "benchmarks.fuse.labels:labels",
        "steps": "benchmarks.fuse.strategies:steps",
        "stacking": "benchmarks.fuse.stacking:stacking",
        "staple": "benchmarks.fuse.strategies:staple",
        "peak": "benchmarks.fuse.peak:peak",
    },
)
