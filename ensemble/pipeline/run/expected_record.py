"""What the provenance record of a result would say today: written with it, and compared later."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.core.provenance import invalidate, is_current, record


@dataclass(frozen=True)
class ExpectedRecord:
    """The record of a result if it were made today.

    Args:
        folder: of the result.
        config: specs, seed and options that decide it; JSON values.
        input_digests: digest of each thing that it is made from, by name.
        part: which result of the folder, where it holds several.
    """

    folder: Path
    config: Mapping[str, Any]
    input_digests: Mapping[str, str]
    part: str = ""

    def is_current(self) -> bool:
        """Tell whether the result exists, whole, and was made of just this."""
        return is_current(
            self.folder, config=self.config, inputs=self.input_digests, part=self.part
        )

    def invalidate(self) -> None:
        """Declare the result unfinished, before its files are written again."""
        invalidate(self.folder, self.part)

    def write(
        self,
        folder: Path | None = None,
        *,
        outputs: Mapping[str, str] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the record, which declares the result whole.

        Args:
            folder: where the result lies until it is renamed; by default its own folder.
            outputs: digests of the files that do not follow from config and inputs.
            info: what helps to check again and is no part of the result's digest.
        """
        record(
            folder or self.folder,
            config=self.config,
            inputs=self.input_digests,
            outputs=outputs,
            info=info,
            part=self.part,
        )
