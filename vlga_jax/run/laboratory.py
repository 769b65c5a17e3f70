"""What a search runs on: its data, genes, ledger, weights and executor, opened together and closed together."""

import contextlib
import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlga_jax import evolution
from vlga_jax.checks import InputError, knob, parse
from vlga_jax.evolution.strategy import Proposal, Strategy, StrategyConfig
from vlga_jax.fitness.environment import environment
from vlga_jax.fitness.evaluation import FitnessConfig, Request
from vlga_jax.fitness.evaluator import Evaluator
from vlga_jax.fitness.executors.local import LocalExecutor
from vlga_jax.fitness.generation import BudgetConfig, Generations
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.fitness.stopping import StoppingConfig
from vlga_jax.fitness.weights import WeightStore
from vlga_jax.genome.space import SearchSpace, SpaceConfig, make_search_space
from vlga_jax.network.decode import decode
from vlga_jax.run.finish import FinalConfig
from vlga_jax.run.search import Search
from vlga_jax.run.tracking import Listener, TrackingConfig
from vlga_jax.training.data import DataConfig, TrainingData, load_training_data
from vlga_jax.training.examples import Examples
from vlga_jax.training.features import PhaseData

# What a `LocalExecutor` and a `Ledger` are made of, and what results depend on; empty is every field. A digest does not
# say the limits, so a network rejected under one search's would be known as rejected to the others.
_SHARED: Mapping[str, Sequence[str]] = {
    "data": (),
    "fitness": (
        *("features", "layers", "compile_threads", "deterministic", "ledger", "any_environment"),
        *("max_seconds", "max_parameters", "max_flops", "max_block_flops", "num_train_examples"),
    ),
}
NO_STRATEGIES = ("breeding", "large_scale_mutations", "operators", "selection", "strategy", "variation")
"""Other modules of `vlga_jax.evolution`."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on; `search` is the strategy's own, `seed` lies in [0, 2**32)."""

    search: StrategyConfig
    space: SpaceConfig
    fitness: FitnessConfig
    stopping: StoppingConfig
    budget: BudgetConfig
    final: FinalConfig
    data: DataConfig
    tracking: TrackingConfig
    seed: int = knob(at_least=0, at_most=2**32 - 1)


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Returns the checked configuration; `search.strategy` names the file that says what `search` holds.

    Raises:
      InputError: a field is unknown, missing, of the wrong type or out of its range, or fields do not go together.
    """
    search, file = values.get("search"), "vlga"
    if isinstance(search, Mapping):
        file = search.get("strategy", "")
        names = [module.name for module in pkgutil.iter_modules(evolution.__path__)]
        strategies = [name for name in names if name not in NO_STRATEGIES]
        if file not in strategies:
            raise InputError("config.search.strategy", file, f"must be one of {', '.join(strategies)}")
    config = parse(
        RunConfig, values, groups={"search": importlib.import_module(f"{evolution.__name__}.{file}").SearchConfig}
    )
    config.search.make(make_search_space(config.space))
    first, *_ = config.stopping.stages(config.fitness.epochs)
    if 0 < config.budget.epochs < first:
        raise InputError("config.budget.epochs", config.budget.epochs, f"must be at least {first}: one network's first")
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Laboratory:
    """From chromosomes to fitness values.

    Attributes:
      config: of the run.
      data: what the final training takes.
      fitness_data: what a fitness is trained and validated on, all of `data` or a part; the executor has it.
      space: the genes.
      environment: what results depend on besides their request.
      ledger, executor, evaluator: open.
    """

    config: RunConfig
    data: TrainingData
    fitness_data: TrainingData
    space: SearchSpace
    environment: str
    ledger: Ledger
    executor: LocalExecutor
    evaluator: Evaluator

    @property
    def images(self) -> PhaseData:
        """What the final training takes."""
        return _images(self.data)

    def request(self, proposal: Proposal, ancestor: Request | None) -> Request:
        """Returns what to ask of a proposal.

        Args:
          proposal: see `Proposal` for what it may inherit.
          ancestor: the evaluated request that it inherits from; None if it starts afresh.
        """
        height, width, channels = self.data.train_images.shape[1:]
        network = decode(
            self.space,
            proposal.chromosome,
            input_shape=(height, width, channels),
            num_classes=len(self.data.class_names),
            pool_stride=self.config.space.pool_stride,
            min_side=self.config.space.min_side,
            head_pool=self.config.space.head_pool,
            whitening=self.config.space.whitening,
        )
        recipe = self.config.fitness.recipe()
        frozen = ancestor is not None and proposal.sources is None
        return Request(
            network=network,
            num_inherited=len(ancestor.network.blocks) if ancestor is not None and frozen else 0,
            inherited_from=ancestor.digest if ancestor is not None else None,
            sources=proposal.sources if ancestor is not None else None,
            recipe=dataclasses.replace(recipe, learning_rate=recipe.learning_rate * proposal.learning_rate_factor),
            limits=self.config.fitness.limits(),
            data=self.fitness_data.fingerprint,
            seed=self.config.seed,
        )

    def configured(self, config: RunConfig) -> "Laboratory":
        """Returns the laboratory with another configuration and its space, to ask for requests, not to train."""
        return dataclasses.replace(self, config=config, space=make_search_space(config.space))

    @contextlib.contextmanager
    def sibling(self, config: RunConfig, directory: Path) -> Iterator["Laboratory"]:
        """Opens the laboratory of another search on the same data, with the same ledger and executor.

        Args:
          config: of the other search.
          directory: of its weights.

        Raises:
          InputError: it would need other data, another executor or ledger, or other limits.
        """
        for group, names in _SHARED.items():
            for name in names or [field.name for field in dataclasses.fields(getattr(config, group))]:
                own, other = (getattr(getattr(each, group), name) for each in (self.config, config))
                if own != other:
                    raise InputError(f"config.{group}.{name}", other, f"must be {own!r}, as for the others")
        with contextlib.closing(_weights(config, directory, self.environment)) as weights:
            evaluator = Evaluator(self.ledger, weights, self.executor)
            yield dataclasses.replace(self.configured(config), evaluator=evaluator)

    def search(self, strategy: Strategy[Any], listener: Listener, history_path: Path) -> Search:
        """Returns the search of a strategy over this laboratory's evaluations.

        Raises:
          InputError: the options of early stopping do not go together.
        """
        config = self.config
        generations = Generations(self.evaluator, config.stopping, config.budget, config.fitness.epochs)
        return Search(strategy, self.space, self.request, generations, self.evaluator.weights, listener, history_path)


@contextlib.contextmanager
def opened(config: RunConfig, directory: Path, listener: Listener) -> Iterator[Laboratory]:
    """Opens a run's laboratory and closes it at the end.

    Args:
      config: checked.
      directory: of ledger and weights.
      listener: told of every epoch.

    Raises:
      InputError: the data or a ledger cannot be used.
    """
    data = load_training_data(config.data)
    fitness_data = data.part(config.fitness.num_train_examples, config.data.split_seed)
    here = environment(config.fitness.features, config.fitness.layers, deterministic=config.fitness.deterministic)
    with contextlib.ExitStack() as stack:
        ledger = Ledger(
            directory / "ledger.sqlite",
            here,
            any_environment=config.fitness.any_environment,
            other=config.fitness.ledger,
        )
        stack.callback(ledger.close)
        weights = _weights(config, directory, here)
        stack.callback(weights.close)
        executor = LocalExecutor(
            _images(fitness_data),
            cache_features=config.fitness.features == "cached",
            compile_threads=config.fitness.compile_threads,
            layers=config.fitness.layers,
            on_epoch=lambda digest, epoch, num_epochs, loss: listener.epoch_finished(
                network=digest, epoch=epoch, num_epochs=num_epochs, loss=loss, accuracy=None
            ),
        )
        stack.callback(executor.close)
        space = make_search_space(config.space)
        evaluator = Evaluator(ledger, weights, executor)
        yield Laboratory(config, data, fitness_data, space, here, ledger, executor, evaluator)


def _images(data: TrainingData) -> PhaseData:
    return PhaseData(
        Examples(data.train_images, data.train_labels), Examples(data.validation_images, data.validation_labels)
    )


def _weights(config: RunConfig, directory: Path, here: str) -> WeightStore:
    return WeightStore(directory / "weights", None if config.fitness.any_environment else here)
