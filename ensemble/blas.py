"""Linear algebra on one thread."""

from contextlib import AbstractContextManager

from threadpoolctl import threadpool_limits


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep matrix products from starting threads of their own for as long as the context lasts.

    Ours are narrow (some dozens of columns). Where the cores are busy anyway, with blocks of
    images or with training, threads inside such a product wait for each other: 3 s were seen for
    what one thread does in 4 ms. And one thread adds up in one order, whatever the machine.
    """
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
