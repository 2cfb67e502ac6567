"""Limits of native thread pools."""

import threadpoolctl

from evaluation.core.threads import single_thread


def test_blas_has_one_thread_within_and_as_many_as_before_after_it():
    def threads():
        return [
            p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"
        ]

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = threads()
        with single_thread("blas"):
            assert set(threads()) <= {1}
        assert threads() == before
