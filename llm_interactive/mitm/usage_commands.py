"""`llm.usage` and `llm.cost`: what the ledger says, inside mitmproxy. Their docstrings are their help."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from mitmproxy import exceptions
from mitmproxy.types import Data

from llm_interactive import usage_report
from llm_interactive.storage.usage_queries import MOST_DAYS


def commands(database: Callable[[], Path]) -> Iterator[tuple[str, Callable[..., object]]]:
    """Names and functions for mitmproxy."""

    def usage(days: int = 30) -> Data:
        """What each model used in the last days, today included."""
        return cast(Data, _read(usage_report.lines, database(), days))

    def cost(days: int = 1) -> str:
        """What was spent today, or in the last days."""
        return _read(usage_report.cost_line, database(), days)

    yield "llm.usage", usage
    yield "llm.cost", cost


def _read[T](read: Callable[[Path, int], T], database: Path, days: int) -> T:
    if not 1 <= days <= MOST_DAYS:
        raise exceptions.CommandError(f"days must be a whole number from 1 to {MOST_DAYS}, not {days}")
    try:
        return read(database, days)
    except sqlite3.Error as error:
        raise exceptions.CommandError(f"{database} cannot be read: {error}") from None
