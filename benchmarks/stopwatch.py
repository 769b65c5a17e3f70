"""A listener that times individuals."""

import time
from typing import Any

from vlga_jax.run.history import HistoryRow
from vlga_jax.run.tracking import NullListener


class Stopwatch(NullListener):
    """Attributes: seconds: by phase and individual, since the one before it; waiting for its program included."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[int, int], float] = {}
        self._last = 0.0

    def generation_started(self, **event: Any) -> None:
        self._last = time.perf_counter()

    def individual_finished(self, *, row: HistoryRow, seconds: float, replayed: bool) -> None:
        now = time.perf_counter()
        self.seconds[row.phase, row.individual] = now - self._last
        self._last = now
