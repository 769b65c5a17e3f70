"""One run, end to end: data, search, final training, test, report. Running it again continues or repeats nothing."""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlga_jax import __version__
from vlga_jax.checks import InputError
from vlga_jax.fitness.ledger import Ledger
from vlga_jax.genome.chromosome import to_values
from vlga_jax.genome.space import SearchSpace
from vlga_jax.network.spec import NetworkSpec, count_flops, count_parameters
from vlga_jax.run import export, laboratory, workdir
from vlga_jax.run.advice import advice, what_to_change
from vlga_jax.run.finish import COLOUR_CHANNELS, FinalConfig, FinalRequest, train_to_convergence, validation_accuracy
from vlga_jax.run.history import write_atomically
from vlga_jax.run.laboratory import Laboratory, RunConfig
from vlga_jax.run.report.figures import write_figures
from vlga_jax.run.search import NothingTrained, SearchResult
from vlga_jax.run.tracking import Listener, make_listener
from vlga_jax.training.data import load_test_data

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def run(config: RunConfig, directory: Path) -> dict[str, Any]:
    """Returns what `result.json` holds, after a whole run; the same call continues one that was interrupted.

    Args:
      config: checked.
      directory: the run's; made if missing.

    Raises:
      InputError: the directory, the data or a ledger cannot be used, or holds another search.
    """
    started = time.perf_counter()
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    with workdir.opened(directory, plain):
        listener = make_listener(config.tracking, workdir=directory)
        try:
            listener.run_started(
                workdir=directory,
                config=plain,
                num_phases=config.search.planned_phases,
                num_generations=config.search.planned_generations,
                population_size=config.search.population_size,
            )
            result = _run(config, plain, directory, listener, started)
            listener.run_finished(result=result, best_dir=directory / "best")
        finally:
            listener.close()
    return result


def _run(
    config: RunConfig, plain: dict[str, Any], directory: Path, listener: Listener, started: float
) -> dict[str, Any]:
    with laboratory.opened(config, directory, listener) as lab:
        workdir.settle(directory, plain, lab.data.fingerprint)
        _tell_of_other_environments(lab.ledger, config, listener)
        for line in advice(lab):
            listener.message(text=line)
        found = search(lab, directory, listener)
        searched = time.perf_counter()
        lab.executor.release()
        _draw(found, directory, listener)
        result, images_per_second = finish(found, lab, directory, listener)
    if images_per_second is None:
        images_per_second = _known_speed(directory / "timing.json")
    timing = {**_timing(found, started, searched), "final_images_per_second": images_per_second}
    write_atomically(directory / "timing.json", json.dumps(timing, indent=2, sort_keys=True) + "\n")
    return result


def _known_speed(path: Path) -> float | None:
    """What an earlier process noted of the final training, which this one did not have to do."""
    try:
        return json.loads(path.read_text())["final_images_per_second"]
    except (OSError, ValueError, KeyError):
        return None


def _draw(found: SearchResult, directory: Path, listener: Listener) -> None:
    try:
        write_figures(found.rows, directory / "figures")
    except ModuleNotFoundError as error:
        listener.message(text=f"no figures are drawn: {str(error.name).partition('.')[0]} is not installed")


def search(lab: Laboratory, directory: Path, listener: Listener) -> SearchResult:
    """Returns what the search of a laboratory's configuration found; the history goes into the directory.

    Raises:
      InputError: no network of the first phase could be trained, or the budget is too small for one.
    """
    strategy = lab.config.search.make(lab.space)
    try:
        return lab.search(strategy, listener, directory / "history.csv").run(lab.config.seed)
    except NothingTrained as error:
        field, remedy = what_to_change(lab, error.status)
        value = getattr(lab.config.fitness, field)
        raise InputError(f"config.fitness.{field}", value, f"{error.remedy}; {remedy}") from error


def finish(
    found: SearchResult, lab: Laboratory, directory: Path, listener: Listener
) -> tuple[dict[str, Any], float | None]:
    """Returns what `result.json` holds, written, after the winner was trained to convergence, exported and tested.

    Beside it, the images a second that the final training took in here; None if it was known.
    """
    final = FinalRequest(found.request, lab.config.final, lab.environment, lab.data.fingerprint)
    outcome, images_per_second = _finish(final, found, lab, directory, listener)
    result = _result(found, final.network, outcome, lab.space)
    write_atomically(directory / "result.json", json.dumps(result, indent=2, sort_keys=True) + "\n")
    return result, images_per_second


def _finish(
    final: FinalRequest, found: SearchResult, lab: Laboratory, directory: Path, listener: Listener
) -> tuple[dict[str, Any], float | None]:
    """The outcome of the final training; trained, exported and tested unless the ledger has it and `best/` is its."""
    known = lab.ledger.find_final(final.digest)
    best = directory / "best"
    export.put_back(best)
    if known is not None and (_is_export_of(export.find(best), final) or _taken_back(best, final, listener)):
        _forget_checkpoints(directory, final.digest)  # a kill may have come before they were deleted
        return known, None
    if final.network != found.request.network:
        flops = " to ".join(_mega(count_flops(network)) for network in (found.request.network, final.network))
        listener.message(text=f"the winner is made wider, from {flops} MFLOP an image")
    checkpoints = _checkpoints(directory, final.digest)
    variables, progress, images_per_second, failure = train_to_convergence(
        final,
        lab.images,
        lambda: lab.evaluator.variables(found.request.digest),
        checkpoints,
        listener,
        layers=lab.config.fitness.layers,
    )
    about = {
        "final": final.digest,
        "class_names": list(lab.data.class_names),
        "chromosome": to_values(lab.space, found.winner.chromosome),
        "input": "uint8 [images, height, width, channels], divided by 255",
    }
    test_images, test_labels = load_test_data(lab.config.data)
    # Before it replaces another: its answers may turn out not to be numbers.
    tested = _test(export.Predictor(final.network, variables, about), test_images, test_labels, lab.config.final)
    replaced = export.find(best)
    keep = export.place_to_keep(best) if os.path.lexists(best) and not _is_export_of(replaced, final) else None
    export.export(best, final.network, variables, about, keep=keep)
    if keep is not None:
        before = lab.ledger.find_final(replaced.about.get("final", "")) if replaced else None
        what = f"the network that was in {best}" if replaced else f"what was in {best}, no whole network,"
        accuracy = f", with its test accuracy of {before['test_accuracy']:.4f}" if before else ""
        listener.message(text=f"{what} is kept in {keep.name}{accuracy}")
    outcome = {
        **tested,
        "num_test_examples": len(test_labels),
        "validation_accuracy": validation_accuracy(progress),
        "num_epochs": len(progress.losses),
        "best_epoch": progress.best_epoch + 1,
        **({"failure": failure} if failure else {}),
    }
    lab.ledger.record_final(final.digest, outcome)
    if (blind := float(np.bincount(test_labels).max() / len(test_labels))) >= (reached := tested["test_accuracy"]):
        told = f"test accuracy {reached:.4f} is no better than {blind:.4f}, which one answer for all images gets"
        listener.message(text=f"{told}; train for longer, or on more images")
    _forget_checkpoints(directory, final.digest)
    return outcome, images_per_second


def _test(predictor: export.Predictor, images: np.ndarray, labels: np.ndarray, config: FinalConfig) -> dict[str, float]:
    """Accuracy on the test images, and beside it that of images and mirror images together, where that is asked for."""
    probabilities = predictor.probabilities(images)
    tested = {"test_accuracy": probabilities}
    if config.test_flip and images.shape[-1] == COLOUR_CHANNELS:
        tested["test_accuracy_with_flip"] = probabilities + predictor.probabilities(images[:, :, ::-1])
    if not all(np.isfinite(values).all() for values in tested.values()):
        remedy = "the trained network's answers on the test images are not finite; give a smaller one"
        raise InputError("config.final.learning_rate", config.learning_rate, remedy)
    return {name: float(np.mean(values.argmax(axis=-1) == labels)) for name, values in tested.items()}


def _is_export_of(found: export.Predictor | None, final: FinalRequest) -> bool:
    return found is not None and found.about.get("final") == final.digest and found.spec == final.network


def _taken_back(best: Path, final: FinalRequest, listener: Listener) -> bool:
    """Whether the network of a final training that was kept beside `best` is there again."""
    for kept in export.kept_beside(best):
        found = None
        with contextlib.suppress(InputError):  # one that cannot be read is left alone
            found = export.find(kept)
        if _is_export_of(found, final):
            if os.path.lexists(best):
                os.replace(best, export.place_to_keep(best))
            os.replace(kept, best)
            listener.message(text=f"the network of these settings was kept in {kept.name}; it is in {best} again")
            return True
    return False


def _checkpoints(directory: Path, digest: str) -> Path:
    return directory / "final" / digest[:16]


def _forget_checkpoints(directory: Path, digest: str) -> None:
    """Deletes those of one final training; others may still be continued."""
    own = _checkpoints(directory, digest)
    shutil.rmtree(own, ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty, or never made
        own.parent.rmdir()


def _mega(flops: int) -> str:
    return f"{flops / 1e6:,.{0 if flops >= 100_000_000 else 1}f}"


def _result(
    found: SearchResult, network: NetworkSpec, outcome: Mapping[str, Any], space: SearchSpace
) -> dict[str, Any]:
    return {
        "best_fitness": found.best_fitness,
        "test_accuracy": outcome["test_accuracy"],
        "num_parameters": count_parameters(network),
        "num_flops": count_flops(network),
        "num_individuals": len(found.rows),
        "num_evaluations": len(found.evaluations),
        "architecture": {
            "chromosome": to_values(space, found.winner.chromosome),
            "network": network.to_json(),
            "digest": found.request.digest,
            "fitness": found.winner.fitness,
            "found_in": found.winner.place._asdict(),
        },
        "final": dict(outcome),
        "versions": {
            "python": platform.python_version(),
            "vlga_jax": __version__,
            **{name: metadata.version(name) for name in _VERSIONED},
        },
    }


def _timing(found: SearchResult, started: float, searched: float) -> dict[str, Any]:
    """Seconds of this process, and of all trainings that the result stands on, whoever ran them."""
    return {
        "wall_seconds": time.perf_counter() - started,
        "search_seconds": searched - started,
        "trained_here": len(found.trained),
        "known_before": len(found.evaluations) - len(found.trained),
        "train_seconds": found.train_seconds,
        "compile_seconds": found.compile_seconds,
        "device": jax.local_devices()[0].device_kind,
    }


def _tell_of_other_environments(ledger: Ledger, config: RunConfig, listener: Listener) -> None:
    others = ledger.other_environments()
    if others and not config.fitness.any_environment:
        listener.message(
            text=f"the ledger also holds results of {', '.join(others)}; they are not used here, "
            "--config.fitness.any_environment=true would use them"
        )
