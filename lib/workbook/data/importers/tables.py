"""CSV files as the importers read them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from workbook.data.importers.texts import some_lines


def header(path: Path) -> list[str]:
    """The names of the columns; none where the file is no text."""
    lines = some_lines(path, 1)
    return [name.strip().strip('"') for name in lines[0].replace(";", ",").split(",")] if lines else []


def read_table(path: Path) -> pd.DataFrame:
    """Every cell as text, an empty one as "", columns parted by commas or semicolons. Raises ValueError, with words."""
    lines = some_lines(path, 1)
    separator = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
                            skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise ValueError(f"it is no table that can be read ({str(error).strip()}): export it again") from None
    return table.rename(columns=lambda name: str(name).strip())


def rows_with(path: Path, column: str, values: Collection[str], listed: set[str]) -> pd.DataFrame:
    """The rows of a large table whose `column` is one of the values. Adds all that the column holds to `listed`.

    Raises ValueError, with words for people.
    """
    parts = []
    try:
        with pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", chunksize=500_000) as chunks:
            for chunk in chunks:
                listed |= set(chunk[column])
                parts.append(chunk[chunk[column].isin(values)])
    except (ValueError, OSError) as error:
        raise ValueError(f"it is no table that can be read ({str(error).strip()}): export it again") from None
    return pd.concat(parts)
