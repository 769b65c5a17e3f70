import csv
import dataclasses
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlga_jax.run import history
from vlga_jax.run.history import HistoryRow

ROW = HistoryRow(
    phase=1,
    generation=2,
    individual=3,
    origin="child",
    parent_a=0,
    parent_b=1,
    chromosome=[{"b": True, "a": 8}, {"a": 16, "b": 0.5}],
    learning_rate=0.001,
    network="f" * 64,
    epochs=3,
    fitness=0.1 + 0.2,
    status="ok",
)
VALUES = st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text())
FIELDS = st.fixed_dictionaries(  # rows are built in the test: beartype draws random items, which a strategy may not
    {
        "phase": st.integers(0, 99),
        "generation": st.integers(0, 99),
        "individual": st.integers(0, 99),
        "origin": st.sampled_from(["initial", "survivor", "mutant", "child"]),
        "parent_a": st.none() | st.integers(0, 99),
        "parent_b": st.none() | st.integers(0, 99),
        "chromosome": st.lists(st.dictionaries(st.text(), VALUES, max_size=3), min_size=1, max_size=3),
        "learning_rate": st.floats(0, 1),
        "network": st.text("0123456789abcdef", min_size=64, max_size=64),
        "epochs": st.integers(1, 99),
        "fitness": st.floats(0, 1),
        "status": st.sampled_from(["ok", "stopped", "diverged"]),
    }
)


def test_to_csv_of_a_row_is_the_line_written_by_hand() -> None:
    header, line, end = history.to_csv([ROW]).split("\n")
    assert header == (
        "phase,generation,individual,origin,parent_a,parent_b,chromosome,learning_rate,network,epochs,fitness,status"
    )
    chromosome = '"[{""a"":8,""b"":true},{""a"":16,""b"":0.5}]"'
    assert line == f"1,2,3,child,0,1,{chromosome},0.001,{'f' * 64},3,0.30000000000000004,ok"
    assert end == ""


def test_to_csv_of_no_parents_leaves_their_cells_empty() -> None:
    row = dataclasses.replace(ROW, parent_a=None, parent_b=None)
    (cells,) = csv.DictReader(io.StringIO(history.to_csv([row])))
    assert (cells["parent_a"], cells["parent_b"]) == ("", "")


def test_to_csv_of_a_chromosome_in_another_order_is_the_same() -> None:
    other = dataclasses.replace(ROW, chromosome=[{"a": 8, "b": True}, {"b": 0.5, "a": 16}])
    assert history.to_csv([other]) == history.to_csv([ROW])


@settings(max_examples=50, deadline=None)
@given(st.lists(FIELDS, max_size=4))
def test_read_csv_of_any_rows_restores_them_to_the_bit(fields: list[dict[str, Any]]) -> None:
    rows = [HistoryRow(**values) for values in fields]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.csv"
        history.write_atomically(path, history.to_csv(rows))
        assert history.read_csv(path) == rows


def test_write_atomically_over_a_file_replaces_it_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    for content in (b"\xff\n", "old\n", "new, ü\n"):
        history.write_atomically(path, content)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert path.read_text() == "new, ü\n"
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_write_atomically_that_is_interrupted_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "history.csv"
    history.write_atomically(path, "old")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, moment, interrupt)
        history.write_atomically(path, "new")
    assert path.read_text() == "old"
    history.write_atomically(path, "newer")
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_write_atomically_makes_the_content_durable_before_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def logged(name: str) -> Any:
        function = getattr(os, name)

        def call(*args: Any) -> None:
            calls.append(name)
            function(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, logged(name))
    history.write_atomically(tmp_path / "history.csv", "text")
    assert calls == ["fsync", "replace"]
