from typing import Any

from benchmarks.table import table


def run(total: float, waiting: float | None, networks: list[tuple[int, float, float, float]]) -> dict[str, Any]:
    individuals: list[dict[str, Any]] = [
        {"phase": phase, "seconds": seconds, "train_seconds": training, "compile_seconds": 1.0, "fitness": fitness}
        for phase, seconds, training, fitness in networks
    ]
    own = {}
    if waiting is not None:
        training = sum(one["train_seconds"] for one in individuals)
        own = {"waiting_seconds": waiting, "features_seconds": 0.25, "training_seconds": training}
    return {"process_seconds": total, "peak_memory_bytes": 2e9, "individuals": individuals, **own}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_of_hand_worked_runs() -> None:
    ours = [run(total, 0.5, [(0, 2.0, 1.0, 0.5), (1, 4.0, 3.0, 0.7)]) for total in (9.0, 10.0, 30.0)]
    peer = [run(25.0, None, [(0, 5.0, 4.0, 0.4), (1, 7.0, 6.0, 0.6)])]
    header, _, first, second = table({"ours": ours, "peer": peer}, flops=8e9, matrix_flops=4e9).splitlines()
    assert cells(header)[:7] == ["", "seconds", "times ours", "compiling", "features", "training", "rest"]
    # Median total 10; training 1 + 3; waiting 0.5 of it is all that compiling held up; 8 GFLOP in 4 s of 4 GFLOP/s.
    assert cells(first)[:11] == ["ours", "10.0", "1.00", "0.5", "0.2", "4.0", "5.2", "2.0", "2.00", "4.00", "4.00"]
    assert cells(first)[11:] == ["1.00", "50 %", "0.600"]
    assert cells(second)[:11] == ["peer", "25.0", "2.50", "2.0", "0.0", "10.0", "13.0", "2.0", "5.00", "7.00", "7.00"]
    assert cells(second)[11:] == ["1.00", "20 %", "0.500"]


def test_table_gives_the_median_growth_from_the_second_phase_to_the_last() -> None:
    rounds = [run(9.0, 0.5, [(0, 9.0, 1.0, 0.5), (1, 2.0, 1.0, 0.5), (2, last, 1.0, 0.5)]) for last in (1.0, 3.0, 8.0)]
    *_, row = table({"ours": rounds}, flops=1.0, matrix_flops=1.0).splitlines()
    assert cells(row)[9:12] == ["2.00", "3.00", "1.50"]
