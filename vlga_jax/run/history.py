"""The history of a search: one row per individual per generation, the same bytes for the same seed.

A row holds nothing that depends on time, machine load or replay.
"""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class HistoryRow:
    """One individual in one generation.

    Attributes:
      phase, generation, individual: from 0; generation 0 is the phase's initial population.
      origin: initial, survivor, mutant, child, fine_tuned or ant.
      parent_a, parent_b: places in the previous generation; None where there is none. In aging evolution, places among
        the living of that time, the oldest first.
      chromosome: gene names to values, phase 0 first, as a list of one mapping per block.
      learning_rate: it was trained with.
      network: digest of the request that gave the fitness.
      epochs: after which the fitness was measured; inherited weights had theirs before.
      fitness: validation accuracy in [0, 1]; 0 unless `status` is ok or stopped.
      status: ok; stopped, before its last epoch; or why there is no fitness.
    """

    phase: int
    generation: int
    individual: int
    origin: str
    parent_a: int | None
    parent_b: int | None
    chromosome: list[Mapping[str, Any]]
    learning_rate: float
    network: str
    epochs: int
    fitness: float
    status: str


COLUMNS = tuple(field.name for field in dataclasses.fields(HistoryRow))


def to_csv(rows: Iterable[HistoryRow]) -> str:
    """Returns the rows as CSV text with a header; floats are written so that they read back to the same bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = [getattr(row, name) for name in COLUMNS]
        cells[COLUMNS.index("chromosome")] = json.dumps(row.chromosome, sort_keys=True, separators=(",", ":"))
        for name in ("learning_rate", "fitness"):
            cells[COLUMNS.index(name)] = repr(getattr(row, name))
        writer.writerow("" if cell is None else cell for cell in cells)
    return text.getvalue()


def read_csv(path: Path) -> list[HistoryRow]:
    """Returns the rows that `to_csv` wrote."""

    def place(cell: str) -> int | None:
        return int(cell) if cell else None

    with open(path, newline="") as file:
        return [
            HistoryRow(
                phase=int(cells["phase"]),
                generation=int(cells["generation"]),
                individual=int(cells["individual"]),
                origin=cells["origin"],
                parent_a=place(cells["parent_a"]),
                parent_b=place(cells["parent_b"]),
                chromosome=json.loads(cells["chromosome"]),
                learning_rate=float(cells["learning_rate"]),
                network=cells["network"],
                epochs=int(cells["epochs"]),
                fitness=float(cells["fitness"]),
                status=cells["status"],
            )
            for cells in csv.DictReader(file)
        ]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces the file at `path`, text being UTF-8; a reader, or a crash, sees the old or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    with open(part, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
