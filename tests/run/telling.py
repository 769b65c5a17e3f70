"""What tests of the progress displays share: a clock, and a run to tell of."""

from pathlib import Path

from vlga_jax.run.history import HistoryRow
from vlga_jax.run.progress import PlainProgress
from vlga_jax.run.rich_progress import RichProgress

RESULT = {
    "best_fitness": 0.95123,
    "architecture": {"fitness": 0.95123, "found_in": {"phase": 0, "generation": 0, "individual": 0}},
    "test_accuracy": 0.9722,
    "num_parameters": 12345,
    "num_individuals": 24,
    "num_evaluations": 17,
}


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def row(
    fitness: float = 0.5,
    *,
    status: str = "ok",
    origin: str = "initial",
    phase: int = 0,
    generation: int = 0,
    individual: int = 0,
) -> HistoryRow:
    return HistoryRow(phase, generation, individual, origin, None, None, [{}], 0.001, "abc", 3, fitness, status)


def tell_of_a_run(listener: PlainProgress | RichProgress) -> None:
    """Phase 1 of 3, generation 2 of 3: two trained, one of them failed, and one known; then one final epoch of 12."""
    listener.run_started(workdir=Path("runs/[digits]"), config={}, num_phases=3, num_generations=3, population_size=10)
    listener.generation_started(phase=0, generation=1, num_to_train=2, num_individuals=10)
    listener.epoch_finished(network="abc", epoch=0, num_epochs=3, loss=0.25, accuracy=0.75)
    good, bad = row(0.9312, individual=3), row(0.0, status="diverged:\nloss is nan", individual=4)
    known = row(0.9410, individual=5, origin="child")
    listener.individual_finished(row=known, seconds=0.0, replayed=True)
    listener.individual_finished(row=good, seconds=2.06, replayed=False)
    listener.individual_finished(row=bad, seconds=0.5, replayed=False)
    listener.generation_finished(rows=[known, good, bad])
    listener.message(text="mind the [red]gap")
    listener.final_started(num_epochs=12, first_epoch=0, best_accuracy=None)
    listener.final_epoch_finished(epoch=0, num_epochs=12, loss=0.5, accuracy=0.97)
    listener.run_finished(result=RESULT, best_dir=Path("runs/[digits]/best"))
    listener.close()
