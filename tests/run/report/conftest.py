"""Records that look like a comparison on digits: small test sets, so accuracies tie; searches of unequal length."""

import random

import pytest

from tests.run.report.drawing import MakeRecords
from vlga_jax.run.report.records import RunRecord

STRATEGIES = (
    "vlga",
    "vlga_uniform_parents",
    "random_search",
    "classical",
    "aging",
    "hill_climbing",
    "successive_halving",
    "annealing",
    "surrogate",
    "vlga_single_point",
    "vlga_no_elites",
    "network_morphism",
)
NUM_VALIDATION, NUM_TEST = 288, 360
POPULATION, GENERATIONS = 10, 3


def make_run(strategy: str, seed: int, budget: float) -> RunRecord:
    draw = random.Random(f"{strategy} {seed}")
    quality = 0.975 - 0.0025 * (STRATEGIES.index(strategy) % 9) + draw.gauss(0.0, 0.006)
    points: list[tuple[float, float]] = []
    times: list[float] = []
    generations: list[tuple[int, int, float, float]] = []
    epochs, saved, seconds, kept = 0, 0, 0.0, [0.3]
    while epochs < budget - 4:
        fitnesses = []
        for _ in range(POPULATION // 2):
            trained = min(draw.choice((4, 4, 4, 2)), int(budget) - epochs)
            if not trained:
                break
            reached = quality - 0.55 * draw.random() ** 3 * (60 / (60 + epochs)) - 0.02 * draw.expovariate(1)
            epochs, saved, seconds = epochs + trained, saved + 4 - trained, seconds + trained * draw.uniform(0.1, 0.2)
            fitnesses.append(round(max(0.1, min(1.0, reached)) * NUM_VALIDATION) / NUM_VALIDATION)
            points.append((float(epochs), fitnesses[-1]))
            times.append(seconds)
        kept = sorted(kept + fitnesses)[-POPULATION:]
        generations.append((*divmod(len(generations), GENERATIONS), sum(kept) / len(kept), kept[-1]))
    best = max(fitness for _, fitness in points)
    test = round((best + draw.gauss(0.005, 0.004)) * NUM_TEST) / NUM_TEST
    parameters = draw.randrange(10_000, 90_000)
    return RunRecord(
        strategy,
        seed,
        best,
        min(1.0, test),
        parameters,
        epochs,
        seconds,
        saved,
        tuple(points),
        tuple(times),
        tuple(generations),
    )


@pytest.fixture(scope="session")
def make_records() -> MakeRecords:
    """Returns the function that makes the runs of so many strategies with so many seeds each."""

    def make(num_strategies: int, num_seeds: int, budget: float = 240.0) -> list[RunRecord]:
        return [make_run(name, seed, budget) for name in STRATEGIES[:num_strategies] for seed in range(num_seeds)]

    return make
