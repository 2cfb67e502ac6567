"""Which faults do the tests miss? A sample of all mutants of fusion, steps and scoring.

mutmut changes one place of the code at a time and runs the tests that reach its function; a mutant
that fails none of them survives. pyproject.toml says which code and which tests. All of them would
take a day, so a sample is drawn by a seed: the same one for the same code.

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
"""mutmut counts it as a timeout, but it is an error before the first test."""


def every_mutant() -> Iterator[str]:
    """Yield the names of all mutants."""
    for path in sorted(walk_mutatable_files()):
        mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
        yield from (get_mutant_name(path, name) for name in mutated.mutant_names)


def exit_codes() -> dict[str, int | None]:
    """Return the exit code of the tests for each mutant."""
    codes: dict[str, int | None] = {}
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        codes |= data.exit_code_by_key
    return codes


def main(seed: int, size: int) -> None:
    """Test a sample; show the survivors, and count the killed ones by package."""
    every = list(every_mutant())
    names = random.Random(seed).sample(every, size)
    subprocess.run([MUTMUT, "run", "--max-children=1", *names], check=True)
    codes = exit_codes()
    if any(codes[name] == NO_PYTEST for name in names):
        sys.exit("pytest did not start for some mutants, so there is no result")
    survivors = sorted(name for name in names if status_by_exit_code[codes[name]] not in KILLED)
    for name in survivors:
        subprocess.run([MUTMUT, "show", name], check=True)
    alive, total = (Counter(name.split(".")[0] for name in some) for some in (survivors, names))
    for package in sorted(total):
        print(f"{package}: {total[package] - alive[package]} of {total[package]} killed")
    print(f"{size - len(survivors)} of {size} killed, drawn from {len(every)} by seed {seed}")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--size", type=int, default=200)
    arguments = options.parse_args()
    main(arguments.seed, arguments.size)
