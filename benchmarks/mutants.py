"""Which faults do the tests miss? A sample of all mutants of fusion, steps and scoring.

mutmut changes one place of the code at a time and runs the tests that reach its function; a mutant
that fails none of them survives. pyproject.toml says which code and which tests. All of them would
take a day, so some are drawn by a seed: the same ones for the same code.

    make mutants SEED=2 SIZE=50
"""

import argparse
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name

MUTMUT = Path(sys.executable).with_name("mutmut")
KILLED = {"killed", "timeout", "segfault"}
NO_PYTEST = 255
"""What mutmut takes for a timeout, but is an error before the first test."""


def every_mutant() -> Iterator[str]:
    """Name the mutants of all files that are changed at all."""
    for path in sorted(walk_mutatable_files()):
        mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
        yield from (get_mutant_name(path, name) for name in mutated.mutant_names)


def exit_codes() -> dict[str, int | None]:
    """Read how the tests ended for each mutant."""
    found: dict[str, int | None] = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        found |= data.exit_code_by_key
    return found


def main(seed: int, size: int) -> None:
    """Try a sample; show what survives, and count what does not, by room."""
    every = list(every_mutant())
    names = random.Random(seed).sample(every, size)
    subprocess.run([MUTMUT, "run", "--max-children=1", *names], check=True)
    codes = exit_codes()
    if any(codes[name] == NO_PYTEST for name in names):
        sys.exit("pytest did not start for some of them, so nothing is known")
    left = sorted(name for name in names if status_by_exit_code[codes[name]] not in KILLED)
    for name in left:
        subprocess.run([MUTMUT, "show", name], check=True)
    alive, tried = (Counter(name.split(".")[0] for name in some) for some in (left, names))
    for room in sorted(tried):
        print(f"{room}: {tried[room] - alive[room]} of {tried[room]} killed")
    print(f"{size - len(left)} of {size} killed, drawn from {len(every)} by seed {seed}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--size", type=int, default=200)
    asked = options.parse_args()
    main(asked.seed, asked.size)
