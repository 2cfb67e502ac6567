"""Native threads (BLAS, OpenMP) in processes and threads that already share the cores."""

from contextlib import AbstractContextManager
from typing import Literal


def single_thread(
    user_api: Literal["blas", "openmp"] | None = None,
) -> AbstractContextManager[object]:
    """Limit native thread pools to one thread; the limit is lifted when the context ends.

    Args:
        user_api: which pools; None limits all.

    Examples:
        >>> import numpy as np
        >>> with single_thread("blas"):
        ...     product = np.ones((2, 2)) @ np.ones((2, 2))
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api=user_api)
    return limits
