"""Mean-field inference in a fully connected conditional random field, five ways.

`compiled` is the fast one, `twin` the same in NumPy, `batched` the same for grey images in torch,
`exact` the referee with the full kernels in float64, `library` pydensecrf. All take the same block
of images and the same `Model`.
"""
