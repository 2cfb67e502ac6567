"""Whether the tests reach enough of our code: `coverage json -o - | python tests/covered.py`."""

import json
import sys

LEAST = {"lines": 99.0, "branches": 97.0}
"""Per cent; CONTRIBUTING.md promises them."""


def covered(totals: dict[str, float]) -> dict[str, float]:
    """Give the shares of lines and of branches that ran, in per cent.

    Args:
        totals: `totals` of coverage's JSON report, measured with branches.
    """
    return {
        "lines": 100 * totals["covered_lines"] / totals["num_statements"],
        "branches": 100 * totals["covered_branches"] / totals["num_branches"],
    }


if __name__ == "__main__":
    shares = covered(json.load(sys.stdin)["totals"])
    for what, share in shares.items():
        sys.stdout.write(f"{what} {share:.2f} %, at least {LEAST[what]:g} expected\n")
    sys.exit(any(share < LEAST[what] for what, share in shares.items()))
