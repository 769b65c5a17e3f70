"""The rows of the headline table, and how much of everything is measured: whole, or cut down to try the script."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: an experiment with one or more seeds.

    Attributes:
      name: of its pieces, a seed appended.
      title: as in the table.
      experiment: file name in experiments/, without its ending.
      published: what the sources say, or what it should reach.
      overrides: of the experiment's fields.
      known_from: another row whose search is this row's, too, and is not done again.
    """

    name: str
    title: str
    experiment: str
    published: str
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)
    known_from: str = ""


ROWS = (
    Row("ours", "our settings", "cifar10", "aim: 95 % in 30 min"),
    Row("report", "the report's protocol, weighted parents", "cifar10_report", "87.25 % on a Colab GPU; aim: 6 min"),
    Row("baseline", "the same, uniform parents", "cifar10_report_baseline", "about 91 networks in 3.65 h; aim: 6 min"),
    Row("paper", "the paper's protocol", "cifar10_paper", "88.92 % in 24.55 h; aim: more in 40 min"),
    Row("random", "random search, our budget", "cifar10_random_search", "58.66 % in 30 h"),
    Row("classical", "classical GA, our budget", "cifar10_classical", "80.75 % in 30 h"),
    Row("aging", "aging evolution, our budget", "cifar10_aging", ""),
    Row("long", "our search, 300 epochs at the end", "cifar10", "aim: 96 % in 60 min", {"final.epochs": "300"}, "ours"),
)
REPEATED = ("report", "baseline")
_DETERMINISM = {"search.num_phases": "1", "search.num_generations": "1", "final.epochs": "2"}
DETERMINISM = {
    name: Row(name, "", "cifar10_report", "", {**_DETERMINISM, "fitness.deterministic": deterministic})
    for name, deterministic in (("fixed_a", "true"), ("fixed_b", "true"), ("free", "false"))
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
      precision: of activations; bfloat16 is for a GPU.
      seeds: of the rows that are repeated.
      rounds: of the workload here and in PyTorch.
      workload: its name.
      bench_seconds: that one process of the workload may need.
      determinism_seconds: that one run that is compared for determinism may need.
      population, phases: of that workload's chromosomes; 0 is its own.
      overrides: of every run's fields.
      experiments: further ones for an experiment.
      rows: further ones for a row, after its own.
    """

    precision: str
    seeds: int
    rounds: int
    workload: str
    bench_seconds: float
    determinism_seconds: float
    population: int = 0
    phases: int = 0
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)
    experiments: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    rows: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


_TINY = {
    "data.num_train_examples": "600",
    "data.num_test_examples": "100",
    "data.validation_fraction": "0.2",
    "space.channels": "8,",
    "space.kernels": "1,3",
    "fitness.epochs": "2",
    "fitness.batch_size": "64",
    "final.widen_to_flops": "0",
    "final.epochs": "2",
    "final.batch_size": "64",
}
_TINY_VLGA = {"search.population_size": "3", "search.num_generations": "1", "search.num_phases": "2"}
_TINY_BUDGET = {"budget.epochs": "8", "search.population_size": "3"}
SCALES = {
    "full": Scale(
        precision="bfloat16",
        seeds=5,
        rounds=3,
        workload="full",
        bench_seconds=200.0,
        determinism_seconds=200.0,
    ),
    "small": Scale(
        precision="float32",
        seeds=2,
        rounds=1,
        workload="shallow",
        population=2,
        phases=1,
        overrides=_TINY,
        experiments={
            **dict.fromkeys(("cifar10_report", "cifar10_report_baseline", "cifar10_paper"), _TINY_VLGA),
            "cifar10": {**_TINY_VLGA, **_TINY_BUDGET},
            **{f"cifar10_{name}": _TINY_BUDGET for name in ("random_search", "classical")},
            "cifar10_aging": {**_TINY_BUDGET, "search.sample_size": "2", "search.num_children": "2"},
        },
        rows={"long": {"final.epochs": "4"}},
        bench_seconds=60.0,
        determinism_seconds=40.0,
    ),
}
