"""Whether fitness ranks networks as their final training does: all that a search judged are trained to their end.

A ranking is resumed like a run: what the ledger knows is not trained again, nor is a final training that was noted.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlga_jax.checks import InputError, knob, parse
from vlga_jax.fitness.evaluation import Request
from vlga_jax.fitness.status import OK
from vlga_jax.network.spec import count_flops, count_parameters
from vlga_jax.run import laboratory, pipeline, workdir
from vlga_jax.run.finish import FinalRequest, train_to_convergence, validation_accuracy
from vlga_jax.run.history import HistoryRow, write_atomically
from vlga_jax.run.laboratory import Laboratory, RunConfig, parse_config
from vlga_jax.run.report.ranking import RankedNetwork, write_ranking
from vlga_jax.run.tracking import NullListener

_FINALS = "finals.json"
_WORST = 0.0  # accuracy of a network whose final training fails, as of one whose fitness fails


@dataclasses.dataclass(frozen=True)
class RankingConfig:
    """Which searches are made.

    Attributes:
      num_seeds: one search each.
      first_seed: seeds count from it.
    """

    num_seeds: int = knob(at_least=1)
    first_seed: int = knob(at_least=0)

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.num_seeds)


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A checked ranking: which seeds, and what each search and each final training is."""

    ranking: RankingConfig
    base: Mapping[str, Any]

    def run_config(self, seed: int) -> RunConfig:
        """Returns the configuration of one search.

        Raises:
          InputError: a field is unknown or cannot be used.
        """
        return parse_config({**self.base, "seed": seed})


def parse_ranking(values: Mapping[str, Any]) -> Ranking:
    """Returns the checked ranking of an experiment file with the groups ranking and base.

    Raises:
      InputError: a field is unknown, missing or out of its range.
    """
    for group in ("ranking", "base"):
        if not isinstance(values.get(group), Mapping):
            raise InputError(f"config.{group}", None, "is missing; experiments/ranking_cifar10.py shows a ranking")
    ranking = Ranking(parse(RankingConfig, values["ranking"], "config.ranking"), values["base"])
    final = ranking.run_config(0).final
    if final.use_all_data:
        remedy = "must be false: networks are ranked by their accuracy on the validation images"
        raise InputError("config.base.final.use_all_data", True, remedy)
    if final.init != "scratch":
        remedy = "must be scratch: the weights of most networks of a search are not kept"
        raise InputError("config.base.final.init", final.init, remedy)
    return ranking


def rank(ranking: Ranking, directory: Path) -> list[RankedNetwork]:
    """Returns every network that a search trained for all its epochs; tables and a figure lie in the directory.

    Args:
      ranking: checked.
      directory: made if missing; the same call continues one that was interrupted.

    Raises:
      InputError: the directory, the data or the ledger cannot be used, or a search comes to no result.
    """
    seeds = ranking.ranking.seeds
    plain = json.loads(json.dumps({"base": ranking.base}))
    networks: list[RankedNetwork] = []
    with (
        workdir.opened(directory, plain),
        laboratory.opened(ranking.run_config(seeds[0]), directory, NullListener()) as lab,
    ):
        workdir.settle(directory, plain, lab.data.fingerprint)
        finals = _Finals(directory / _FINALS)
        for seed in seeds:
            own = directory / "runs" / f"seed-{seed}"
            own.mkdir(parents=True, exist_ok=True)
            with lab.sibling(ranking.run_config(seed), own) as sibling:
                networks.extend(_ranked(sibling, own, finals))
    write_ranking(networks, directory)
    return networks


class _Finals:
    """Accuracies after a final training by its digest, in a file that a kill leaves whole."""

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def find(self, digest: str) -> float | None:
        return self._known.get(digest)

    def record(self, digest: str, accuracy: float) -> None:
        self._known[digest] = accuracy
        write_atomically(self._path, json.dumps(self._known, indent=1, sort_keys=True) + "\n")


def _ranked(lab: Laboratory, directory: Path, finals: _Finals) -> Iterator[RankedNetwork]:
    """The networks of one search, in the order in which it met them."""
    found = pipeline.search(lab, directory, NullListener())
    met: dict[str, HistoryRow] = {}
    for row in found.rows:
        if row.status == OK:
            met.setdefault(row.network, row)
    rows = list(met.values())
    whole = _fitness_of_whole(lab, [found.requests[row.network] for row in rows])
    lab.executor.forget_features()
    for place, row in enumerate(rows, 1):
        started, request = time.perf_counter(), found.requests[row.network]
        network = request.network
        accuracy = _final_accuracy(lab, request, directory, finals)
        print(
            f"seed {lab.config.seed} phase {row.phase + 1} network {place}/{len(rows)}: fitness {row.fitness:.4f}, "
            f"whole {whole[place - 1]:.4f}, after final training {accuracy:.4f}, "
            f"{time.perf_counter() - started:.1f} s",
            flush=True,
        )
        yield RankedNetwork(
            seed=lab.config.seed,
            phase=row.phase,
            network=row.network,
            num_flops=count_flops(network),
            num_parameters=count_parameters(network),
            fitness=row.fitness,
            whole_fitness=whole[place - 1],
            final_accuracy=accuracy,
        )


def _fitness_of_whole(lab: Laboratory, requests: list[Request]) -> list[float]:
    """What each network's fitness is where all its blocks train from fresh weights."""
    whole = [dataclasses.replace(each, num_inherited=0, inherited_from=None, sources=None) for each in requests]
    evaluated = lab.evaluator.evaluate(whole, keep_from=math.inf)  # nobody inherits from them
    fitness = {evaluation.digest: evaluation.fitness for evaluation, _ in evaluated}
    return [fitness[each.digest] for each in whole]


def _final_accuracy(lab: Laboratory, request: Request, directory: Path, finals: _Finals) -> float:
    """The validation accuracy after a final training from fresh weights; the worst if that fails at once."""
    final = FinalRequest(request, lab.config.final, lab.environment, lab.data.fingerprint)
    known = finals.find(final.digest)
    if known is not None:
        return known
    checkpoints = directory / "final" / final.digest[:16]
    try:
        converged = train_to_convergence(
            final,
            lab.images,
            lambda: lab.evaluator.variables(request.digest),
            checkpoints,
            NullListener(),
            layers=lab.config.fitness.layers,
        )
        accuracy = validation_accuracy(converged.progress)
        assert accuracy is not None, "the validation images are not trained on"
    except InputError as error:
        print(error, flush=True)
        accuracy = _WORST
    finals.record(final.digest, accuracy)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return accuracy
