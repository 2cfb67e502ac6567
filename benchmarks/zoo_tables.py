"""Print the results of `zoo.py` as Markdown: the rows, and what each gained over its rival.

.venv/bin/python -m benchmarks.zoo_tables
"""

from pathlib import Path
from typing import Any

import click
import pandas as pd

from benchmarks.zoo import RESULTS

ROWS = ["report", "row", "reported", "`keras`", "`masked`", "95 % interval", "as ignored"]
STEPS = [
    *("report", "from", "to", "reported", "`keras`", "by pixels", "by the denominator"),
    *("`masked`", "95 % interval", "trainings", "recipe", "95 % interval"),
]
Row = dict[Any, Any]


@click.command(help=__doc__.partition("\n")[0])
@click.option(
    "--results", type=click.Path(path_type=Path, exists=True), default=RESULTS, show_default=True
)
def main(results: Path) -> None:
    """Print two tables, and the rank correlation of training and validation scores."""
    frame = pd.read_csv(results, na_values=[""], keep_default_na=False, dtype={"reported": str})
    columns = list(frame.columns)
    classes = columns[columns.index("as_ignored") + 1 : columns.index("training")]
    rows: list[Row] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    print_table(
        [*ROWS, *classes, "training", "epochs", "minutes", "parameters", "network"],
        [_row(row, classes) for row in rows],
    )
    click.echo()
    print_table(STEPS, [_step(row, rows) for row in rows if row["gain"] is not None])
    networks = frame[frame["chain"].isna()].drop_duplicates("network")
    ranks = networks["training"].corr(networks["masked"], method="spearman")
    click.echo(f"\nRank correlation of training with masked, {len(networks)} networks: {ranks:.2f}")


def print_table(heads: list[str], lines: list[list[str]]) -> None:
    """Print a Markdown table."""
    click.echo(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for cells in lines:
        click.echo(f"| {' | '.join(cells)} |")


def _row(row: Row, classes: list[str]) -> list[str]:
    return [
        *(row["table"], row["row"], row["reported"] or ""),
        *(_short(row["keras"]), _short(row["masked"])),
        f"{_short(row['low'])} to {_short(row['high'])}",
        f"{row['as_ignored']:,}",
        *(_short(row[name]) for name in (*classes, "training")),
        *(str(row["epochs"]), f"{row['minutes']:.1f}" if row["minutes"] else ""),
        f"{row['parameters'] / 1e6:.2f} M",
        f"`{row['network']}`" + (f", `{row['chain']}`" if row["chain"] else ""),
    ]


def _step(row: Row, rows: list[Row]) -> list[str]:
    plain = [r for r in rows if r["network"] == row["against"] and not r["chain"]]
    before = next((r for r in plain if r["table"] == row["table"]), plain[0])
    comparable = before["table"] == row["table"] and before["reported"] and row["reported"]
    gain = float(row["reported"]) - float(before["reported"]) if comparable else None
    parts = [_short(row[name], "+") for name in ("keras_gain", "keras_pixels")]
    ends = [
        f"{_short(row[f'{kind}_low'], '+')} to {_short(row[f'{kind}_high'], '+')}"
        if row[f"{kind}_low"] is not None
        else ""
        for kind in ("gain", "recipe")
    ]
    return [
        *(row["table"], before["row"], row["row"], _short(gain, "+"), *parts),
        *(_short(row["keras_denominator"], "+"), _short(row["gain"], "+"), ends[0]),
        *(str(row["trainings"]), _short(row["recipe_gain"], "+"), ends[1]),
    ]


def _short(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}".replace("0.", ".", 1)


if __name__ == "__main__":
    main()
