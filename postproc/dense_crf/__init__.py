"""Mean-field inference in a fully connected conditional random field, by several backends.

`cpp_backend` is the fast one, `torch_backend` the same for grey images on a GPU, `exact` uses the
full kernels in float64, and `pydensecrf_backend` calls that library. All take the same block of
images and the same `CrfParams`.
"""
