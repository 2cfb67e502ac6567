"""Texts of Matplotlib figures that are drawn as they are."""

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Draw texts as they are, from the first to the file; for every figure of the project.

    `$` in an id or class name starts no formula, and a sign that the font lacks is a box.
    """
    from matplotlib import rc_context  # slow to import

    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
