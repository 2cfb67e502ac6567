"""Random seeds: which are accepted, and what a library gets that takes 32 bits."""

from typing import Annotated

import numpy as np
from pydantic import Field

from evaluation.core.errors import BadSpec, shorten

MAX_SEED = 2**64 - 1
"""The largest that PyTorch takes."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


def check_seed(seed: int) -> int:
    """Return a seed that a caller gave.

    Raises:
        BadSpec: no integer from 0 to 2^64 - 1.
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed <= MAX_SEED:
        raise BadSpec(f"seed {shorten(seed)}; expected an integer from 0 to 2^64 - 1")
    return int(seed)


def seed_32_bits(seed: int) -> int:
    """Return the seed itself where it fits in 32 bits, else one drawn from it.

    For scikit-learn and NumPy's old generators, which refuse larger ones.
    """
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])
