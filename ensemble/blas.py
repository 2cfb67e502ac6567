"""Linear algebra on one thread."""

from contextlib import AbstractContextManager


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep matrix products from starting threads of their own while the context lasts.

    The products here are narrow (some dozens of columns). Where all cores are busy, with blocks of
    images or with training, threads inside such a product wait for each other: 3 s were measured
    for what one thread does in 4 ms. And one thread adds up in one order on every machine.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
