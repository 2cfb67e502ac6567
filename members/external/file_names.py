"""Names of images in the names of files: what programs append to them."""

import re
from collections.abc import Sequence

SUFFIX = re.compile(
    r"[-_.](?:probs?|probabilit(?:y|ies)|softmax|sigmoid|logits?|scores?|preds?|predictions?|outputs?"
    r"|segs?|segmentation|masks?|labels?|gt)(?=(?:-\d+)?$)",
    re.IGNORECASE,
)
"""What is appended to an image's name; the number of a volume's slice may follow."""


def image_names(names: Sequence[str]) -> list[str]:
    """Return names without the suffix that all of them have, such as `_probs`.

    Examples:
        >>> image_names(["a_probs", "b_probs"]), image_names(["a_mask", "b"])
        (['a', 'b'], ['a_mask', 'b'])
    """
    found = [SUFFIX.search(name) for name in names]
    if len({None if match is None else match[0] for match in found}) != 1:
        return list(names)
    stripped = [SUFFIX.sub("", name) for name in names]
    return stripped if all(stripped) else list(names)
