"""Runs search strategies side by side: every strategy with every seed at an equal budget, all on one ledger.

A comparison is resumed like a run: what the ledger knows is not trained again, and runs that are complete are read.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from vlga_jax.checks import InputError, knob, parse
from vlga_jax.run import laboratory, pipeline, workdir
from vlga_jax.run.advice import few_steps, few_validation_images, tight_limits
from vlga_jax.run.history import write_atomically
from vlga_jax.run.laboratory import Laboratory, RunConfig, parse_config
from vlga_jax.run.report.comparison import TABLES, write_tables
from vlga_jax.run.report.comparison_figures import write_comparison_figures
from vlga_jax.run.report.records import RunRecord
from vlga_jax.run.search import SearchResult
from vlga_jax.run.seeds import Names, SeedsConfig
from vlga_jax.run.tracking import NullListener, scores


@dataclasses.dataclass(frozen=True)
class CompareConfig(SeedsConfig):
    """What is compared, and how; every strategy with each of the seeds.

    Attributes:
      budget_epochs: of training, for each search; 0 if the budget is in seconds.
      budget_seconds: of evaluations, likewise. Strategies share compiled programs, so who runs later has fewer to
        compile; for seconds that compare, run each alone (`only` and `reference` both name it), with a new directory in
        JAX_COMPILATION_CACHE_DIR.
      only: strategies that run, the reference among them; empty is all.
      reference: the strategy that the others are compared with.
      crossovers: strategies in the report's two figures.
    """

    budget_epochs: int = knob(at_least=0)
    budget_seconds: float = knob(at_least=0)
    only: tuple[str, ...] = knob(may_be_empty=True)
    reference: str = knob()
    crossovers: tuple[str, ...] = knob(may_be_empty=True)

    def __post_init__(self) -> None:
        if (self.budget_epochs > 0) == (self.budget_seconds > 0):
            remedy = "give either compare.budget_epochs or compare.budget_seconds, the other 0"
            raise InputError("config.compare.budget_epochs", self.budget_epochs, remedy)

    @property
    def budget(self) -> tuple[float, Literal["epochs", "seconds"]]:
        """How much, and of what."""
        return (float(self.budget_epochs), "epochs") if self.budget_epochs else (self.budget_seconds, "seconds")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A checked comparison: each strategy's run for a seed, by the strategy's name.

    Attributes:
      compare: what is compared.
      strategies: those that run, by name: what each adds to `base`.
      base: what all runs share.
      left_out: names of the others.
    """

    compare: CompareConfig
    strategies: Mapping[str, Mapping[str, Any]]
    base: Mapping[str, Any]
    left_out: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The strategy whose data, executor and ledger are those of all."""
        return next(iter(self.strategies))

    def run_config(self, name: str, seed: int) -> RunConfig:
        """Returns the configuration of one run.

        Raises:
          InputError: a field is unknown or cannot be used.
        """
        values = {group: dict(fields) if isinstance(fields, Mapping) else fields for group, fields in self.base.items()}
        for group, fields in self.strategies[name].items():
            if group not in values and group != "search":
                raise InputError(f"config.strategies.{name}.{group}", "", "is no group of an experiment")
            values[group] = dict(fields) if group == "search" else {**values[group], **fields}
        values["seed"] = seed
        values["budget"] = {"epochs": self.compare.budget_epochs, "seconds": self.compare.budget_seconds}
        with self.names(name).in_errors():
            return parse_config(values)

    def names(self, name: str) -> Names:
        """Returns what the fields of a strategy's runs are called."""
        own = {group: fields for group, fields in self.strategies[name].items() if isinstance(fields, Mapping)}
        return Names("compare", name, own)


def parse_comparison(values: Mapping[str, Any]) -> Comparison:
    """Returns the checked comparison of an experiment file with the groups compare, base and strategies.

    Raises:
      InputError: a field is unknown, missing or out of its range, or the reference is no strategy.
    """
    for group in ("compare", "base", "strategies"):
        if not isinstance(values.get(group), Mapping):
            remedy = "experiments/compare_digits.py shows a comparison"
            if group == "compare":
                other = "-m vlga_jax.ranking` with a ranking" if "ranking" in values else "main.py` with an experiment"
                remedy = f"run `python {other}; {remedy}"
            raise InputError(f"config.{group}", None, f"is missing; {remedy}")
    compared, every = parse(CompareConfig, values["compare"], "config.compare"), values["strategies"]
    compared.require_room("compare")
    for field, names in (
        ("only", compared.only),
        ("reference", (compared.reference,)),
        ("crossovers", compared.crossovers),
    ):
        for name in names:
            if name not in every:
                raise InputError(f"config.compare.{field}", name, f"must be one of {', '.join(every)}")
    if compared.only and compared.reference not in compared.only:
        remedy = f"must hold {compared.reference}, which config.compare.reference names; or name another there"
        raise InputError("config.compare.only", compared.only, remedy)
    chosen = {name: own for name, own in every.items() if name in (compared.only or every)}
    compared = dataclasses.replace(compared, crossovers=tuple(name for name in compared.crossovers if name in chosen))
    left_out = tuple(name for name in every if name not in chosen)
    comparison = Comparison(compared, chosen, values["base"], left_out)
    for name in comparison.strategies:
        comparison.run_config(name, compared.seeds[-1])
    return comparison


class _NoResultError(Exception):
    """A run that came to no result, and would come to none again: its message names strategy, seed and why."""


def compare(comparison: Comparison, directory: Path) -> list[RunRecord]:
    """Returns a record of every run, after all of them; tables and figures lie in the directory.

    A run that comes to no result, because its final training diverges, say, keeps no other from running.

    Args:
      comparison: checked.
      directory: made if missing; the same call continues one that was interrupted.

    Raises:
      InputError: the directory, the data or the ledger cannot be used; or runs came to no result, and the tables are
        those of the others.
    """
    compared = comparison.compare
    shared = comparison.run_config(comparison.first, compared.first_seed)
    plain = json.loads(json.dumps({"base": comparison.base, "budget": compared.budget}))
    records: list[RunRecord] = []
    failures: list[str] = []
    num_runs = len(compared.seeds) * len(comparison.strategies)
    with (
        comparison.names(comparison.first).in_errors(),
        workdir.opened(directory, plain),
        laboratory.opened(shared, directory, NullListener()) as lab,
    ):
        workdir.settle(directory, plain, lab.data.fingerprint)
        _advise(comparison, lab)
        for seed in compared.seeds:
            for name in comparison.strategies:
                started = time.perf_counter()
                try:
                    record = _record(comparison, name, seed, directory / "runs" / f"{name}-{seed}", lab)
                except _NoResultError as error:
                    failures.append(str(error))
                    print(f"{error}, {len(records) + len(failures)} of {num_runs} done", flush=True)
                    continue
                records.append(record)
                print(
                    f"{name} seed {seed}: fitness {record.best_fitness:.4f} test accuracy {record.test_accuracy:.4f} "
                    f"{record.epochs} epochs, {time.perf_counter() - started:.1f} s, "
                    f"{len(records) + len(failures)} of {num_runs} done",
                    flush=True,
                )
    if compared.reference in {record.strategy for record in records}:
        _write(comparison, records, failures, directory)
        told = "comparison.md is of the others"
    else:
        for name in TABLES:
            (directory / name).unlink(missing_ok=True)  # of fewer runs, as it was before
        shutil.rmtree(directory / "figures", ignore_errors=True)
        told = "no table is written, for want of the reference"
    if not failures:
        return records
    remedy = f"{len(failures)} of {len(records) + len(failures)} runs came to no result, {told}: {'; '.join(failures)}"
    raise InputError("workdir", str(directory), remedy)


def _advise(comparison: Comparison, lab: Laboratory) -> None:
    """Prints what a user may want to change; strategies may differ in all but the number of validation images."""
    if few := few_validation_images(lab):
        print(comparison.names(comparison.first).placed(few), flush=True)
    told: dict[str, list[str]] = {}
    for name in comparison.strategies:
        own = lab.configured(comparison.run_config(name, comparison.compare.first_seed))
        for line in (few_steps(own), tight_limits(own)):
            told.setdefault(comparison.names(name).placed(line), []).append(name)
    for line, names in told.items():
        if line:
            print(f"{', '.join(names)}: {line}", flush=True)


def _write(comparison: Comparison, records: Sequence[RunRecord], failures: Sequence[str], directory: Path) -> None:
    """Tables and figures of the runs there are."""
    compared = comparison.compare
    budget, unit = compared.budget
    without = {*comparison.strategies} - {record.strategy for record in records}
    write_tables(
        records,
        directory,
        budget=budget,
        unit=unit,
        reference=compared.reference,
        left_out=(*comparison.left_out, *sorted(without)),
        failures=failures,
    )
    write_comparison_figures(
        records,
        directory / "figures",
        budget=budget,
        unit=unit,
        reference=compared.reference,
        crossovers=tuple(name for name in compared.crossovers if name not in without),
    )


def _record(comparison: Comparison, name: str, seed: int, directory: Path, lab: Laboratory) -> RunRecord:
    """One run's record, read where the run is complete as it is configured now, in this environment."""
    config, names = comparison.run_config(name, seed), comparison.names(name)
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    path = directory / "record.json"
    with names.in_errors(), workdir.opened(directory, plain):
        if path.is_file() and workdir.holds(directory, plain):
            written = json.loads(path.read_text())
            if config.fitness.any_environment or written.get("environment") == lab.environment:
                return record_from_json(written)
        path.unlink(missing_ok=True)  # of what the run was before: longer now, or with another winner
        workdir.settle(directory, plain, lab.data.fingerprint)
        with lab.sibling(config, directory) as own:
            try:
                with names.in_errors():
                    found = pipeline.search(own, directory, NullListener())
                    lab.executor.forget_features()
                    result, _ = pipeline.finish(found, own, directory, NullListener())
            except InputError as error:
                raise _NoResultError(f"{name} seed {seed}: {error}") from error
        record = _make_record(name, config, found, result)
        whole = {**dataclasses.asdict(record), "environment": lab.environment}
        write_atomically(path, json.dumps(whole) + "\n")
    return record


def _make_record(name: str, config: RunConfig, found: SearchResult, result: Mapping[str, Any]) -> RunRecord:
    reached = [(epochs, seconds, fitness) for epochs, seconds, fitness in found.points if not math.isnan(fitness)]
    generations = []
    for (phase, generation), rows in groupby(found.rows, key=lambda row: (row.phase, row.generation)):
        reach = scores(list(rows))
        if reach.best is not None and reach.average is not None:
            generations.append((phase, generation, reach.average, reach.best))
    return RunRecord(
        strategy=name,
        seed=config.seed,
        best_fitness=found.best_fitness,
        test_accuracy=result["test_accuracy"],
        num_parameters=result["num_parameters"],
        epochs=found.points[-1][0],
        seconds=found.points[-1][1],
        epochs_saved=found.epochs_saved,
        points=tuple((float(epochs), fitness) for epochs, _, fitness in reached),
        times=tuple(seconds for _, seconds, _ in reached),
        generations=tuple(generations),
    )


def record_from_json(written: Mapping[str, Any]) -> RunRecord:
    """Returns the record whose fields JSON gave back; others, which say how it came about, are left out."""
    values = {field.name: written[field.name] for field in dataclasses.fields(RunRecord)}
    nested = {name: tuple(map(tuple, values[name])) for name in ("points", "generations")}
    return RunRecord(**{**values, **nested, "times": tuple(values["times"])})
