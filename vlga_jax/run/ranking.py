"""Whether fitness ranks networks as their final training does: those of a search are all trained to their end.

A ranking is resumed like a run: what the ledger knows is not trained again.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlga_jax.checks import InputError, parse
from vlga_jax.fitness.evaluation import Request, digest_of
from vlga_jax.fitness.status import OK
from vlga_jax.network.spec import count_flops, count_parameters
from vlga_jax.run import laboratory, pipeline, workdir
from vlga_jax.run.advice import advice
from vlga_jax.run.finish import FinalRequest, train_to_convergence, validation_accuracy
from vlga_jax.run.history import HistoryRow
from vlga_jax.run.laboratory import Laboratory, RunConfig, parse_config
from vlga_jax.run.report.ranking import LEAST, RankedNetwork, write_ranking
from vlga_jax.run.search import SearchResult
from vlga_jax.run.seeds import Names, SeedsConfig
from vlga_jax.run.tracking import NullListener

# Of a search in which networks compare: all of a phase, each with a fitness of its own after the same training.
_WANTED: Mapping[str, Any] = {
    "search.strategy": "vlga",
    "search.fine_tuning_rate": 0.0,
    "stopping.rungs": (),
    "stopping.reference_quantile": 0.0,
    "fitness.max_seconds": 0.0,
    "final.use_all_data": False,  # accuracies are of the validation images
    "final.init": "scratch",  # a search does not keep the weights of all its networks
    "final.widen_to_flops": 0,  # sizes are what a network is ranked by
}
_NAMES = Names("ranking")
_OTHER_SEED = 2**31  # as far away a network's second final training is


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A checked ranking: which seeds, and what each search and each final training is."""

    ranking: SeedsConfig
    base: Mapping[str, Any]

    def run_config(self, seed: int) -> RunConfig:
        """Returns the configuration of one search.

        Raises:
          InputError: a field is unknown or cannot be used.
        """
        with _NAMES.in_errors():
            return parse_config({**self.base, "seed": seed})


def parse_ranking(values: Mapping[str, Any]) -> Ranking:
    """Returns the checked ranking of an experiment file with the groups ranking and base.

    Raises:
      InputError: a field is unknown, missing or out of its range, or its search is none whose networks compare.
    """
    for group in ("ranking", "base"):
        if not isinstance(values.get(group), Mapping):
            raise InputError(f"config.{group}", None, "is missing; experiments/ranking_cifar10.py shows a ranking")
    ranking = Ranking(parse(SeedsConfig, values["ranking"], "config.ranking"), values["base"])
    ranking.ranking.require_room("ranking")
    checked = ranking.run_config(ranking.ranking.first_seed)
    config = dataclasses.asdict(checked)
    for name, wanted in _WANTED.items():
        group, _, field = name.partition(".")
        if config[group][field] != wanted:
            remedy = f"must be {wanted!r} in a ranking, so that all networks of a phase compare"
            raise InputError(f"config.base.{name}", config[group][field], remedy)
    if checked.search.population_size * checked.search.planned_generations < LEAST:
        remedy = f"a phase needs {LEAST} networks to be ranked, so at least that many individuals; give more"
        raise InputError("config.base.search.population_size", checked.search.population_size, remedy)
    return ranking


def rank(ranking: Ranking, directory: Path) -> list[RankedNetwork]:
    """Returns every network to which a search gave a fitness; tables and a figure lie in the directory.

    Left out, with a line that says so, are those whose final training fails.

    Args:
      ranking: checked.
      directory: made if missing; the same call continues one that was interrupted.

    Raises:
      InputError: the directory, the data or the ledger cannot be used, or a search has no phase with three networks.
    """
    seeds = ranking.ranking.seeds
    plain = json.loads(json.dumps({"base": ranking.base}))
    networks: list[RankedNetwork] = []
    num_failed = 0
    with (
        _NAMES.in_errors(),
        workdir.opened(directory, plain),
        laboratory.opened(ranking.run_config(seeds[0]), directory, NullListener()) as lab,
    ):
        workdir.settle(directory, plain, lab.data.fingerprint)
        for line in advice(lab):
            print(_NAMES.placed(line), flush=True)
        for seed in seeds:
            own = directory / "runs" / f"seed-{seed}"
            own.mkdir(parents=True, exist_ok=True)
            with lab.sibling(ranking.run_config(seed), own) as sibling:
                found = pipeline.search(sibling, own, NullListener())
                ranked = _ranked(found, sibling, own)
            shutil.rmtree(own / "final", ignore_errors=True)
            networks += ranked
            num_failed += len({row.network for row in found.rows}) - len(ranked)
    write_ranking(networks, directory, num_failed=num_failed)
    return networks


def _ranked(found: SearchResult, lab: Laboratory, directory: Path) -> list[RankedNetwork]:
    """The networks of one search, in the order in which it met them."""
    met: dict[str, HistoryRow] = {}
    for row in found.rows:
        if row.status == OK:
            met.setdefault(row.network, row)
    phases = [row.phase for row in met.values()]
    if max(map(phases.count, phases)) < LEAST:
        few = f"no phase of the search of seed {lab.config.seed} has {LEAST} networks with a fitness"
        remedy = "give more, more choices in config.base.space, or wider limits of fitness, with another --workdir"
        raise InputError("config.base.search.population_size", lab.config.search.population_size, f"{few}; {remedy}")
    print(f"seed {lab.config.seed}: searched, {len(met)} networks have a fitness and are trained whole", flush=True)
    lab.executor.forget_features()  # whole networks need their room
    whole = _fitness_of_whole(lab, [found.requests[digest] for digest in met])
    ranked = []
    for place, (row, whole_fitness) in enumerate(zip(met.values(), whole, strict=True), 1):
        started, request = time.perf_counter(), found.requests[row.network]
        told = f"seed {lab.config.seed} phase {row.phase + 1} network {place}/{len(met)}: "
        if math.isnan(whole_fitness):
            print(f"{told}not ranked: trained whole for a fitness it fails", flush=True)
            continue
        try:
            with _NAMES.in_errors():
                first, second = (_final_accuracy(lab, each, directory) for each in (request, _again(request)))
        except InputError as error:
            print(f"{told}not ranked: {error}", flush=True)
            continue
        print(
            f"{told}fitness {row.fitness:.4f}, trained whole {whole_fitness:.4f}, after final training {first:.4f} and "
            f"{second:.4f}, {time.perf_counter() - started:.1f} s",
            flush=True,
        )
        ranked.append(
            RankedNetwork(
                seed=lab.config.seed,
                phase=row.phase,
                network=row.network,
                num_flops=count_flops(request.network),
                num_parameters=count_parameters(request.network),
                fitness=row.fitness,
                whole_fitness=whole_fitness,
                final_accuracy=first,
                second_accuracy=second,
            )
        )
    return ranked


def _again(request: Request) -> Request:
    """The same network, to be trained with other weights and another order of images."""
    return dataclasses.replace(request, seed=(request.seed + _OTHER_SEED) % 2**32)


def _fitness_of_whole(lab: Laboratory, requests: list[Request]) -> list[float]:
    """What each network's fitness is where all its blocks train from fresh weights; NaN where that fails."""
    whole = [dataclasses.replace(each, num_inherited=0, inherited_from=None, sources=None) for each in requests]
    evaluated = lab.evaluator.evaluate(whole, keep_from=math.inf)  # nobody inherits from them
    fitness = {each.digest: each.fitness if each.status == OK else math.nan for each, _ in evaluated}
    return [fitness[each.digest] for each in whole]


def _final_accuracy(lab: Laboratory, request: Request, directory: Path) -> float:
    """The validation accuracy after a final training from fresh weights.

    Raises:
      InputError: the training fails at once.
    """
    final = FinalRequest(request, lab.config.final, lab.environment, lab.data.fingerprint)
    name = digest_of({"ranking": final.digest})  # a run's outcome of the same training says more
    known = lab.ledger.find_final(name)
    if known is None:
        converged = train_to_convergence(
            final,
            lab.images,
            lambda: lab.evaluator.variables(request.digest),  # of no use here: it starts from fresh weights
            directory / "final" / final.digest[:16],
            NullListener(),
            layers=lab.config.fitness.layers,
        )
        known = {"validation_accuracy": validation_accuracy(converged.progress)}
        lab.ledger.record_final(name, known)
        shutil.rmtree(directory / "final", ignore_errors=True)
    return float(known["validation_accuracy"])
