"""How well what is cheap to know of networks ranks them as their final training does: ranking.md, .csv and a figure.

Networks compare within their phase of their search, as the search compares them: those of a phase are a group. Equal
networks give equal bytes, whatever their order.
"""

import csv
import dataclasses
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from vlga_jax.checks import InputError
from vlga_jax.run.history import write_atomically
from vlga_jax.run.report import canvas
from vlga_jax.run.report.records import interval_words
from vlga_jax.run.report.statistics import bootstrap_mean
from vlga_jax.shapes import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 3
"""Networks of a group: two are in order or in reverse, and say little."""
PREDICTORS: Mapping[str, str] = {
    "fitness": "fitness in the search",
    "whole_fitness": "fitness, trained whole",
    "num_flops": "operations, more first",
    "num_parameters": "parameters, more first",
    "second_accuracy": "another final training",
}
"""Fields of `RankedNetwork` by which networks are ranked, and what they are called."""


@dataclasses.dataclass(frozen=True)
class RankedNetwork:
    """A network to which a search gave a fitness; accuracies are of the validation images, in [0, 1].

    Attributes:
      seed, phase: where the search met it first, from 0.
      network: digest of the request that gave its fitness.
      num_flops: operations of one image's forward pass.
      num_parameters: trainable values.
      fitness: in the search.
      whole_fitness: after as many epochs of all its blocks, from fresh weights.
      final_accuracy: of the best epoch of its final training, from fresh weights.
      second_accuracy: the same of another, with other draws: how far chance alone takes them apart.
    """

    seed: int
    phase: int
    network: str
    num_flops: int
    num_parameters: int
    fitness: float
    whole_fitness: float
    final_accuracy: float
    second_accuracy: float


class Agreement(NamedTuple):
    """What a predictor says of a group's final accuracies.

    Attributes:
      tau: Kendall's, in [-1, 1]; 0 where all values are equal.
      gain: final accuracy of the network it puts first, of several the mean, less the group's mean.
      loss: the group's best final accuracy less that network's.
    """

    tau: float
    gain: float
    loss: float


def agreement(predicted: Float[np.ndarray, " networks"], reached: Float[np.ndarray, " networks"]) -> Agreement:
    """Returns how well a predictor ranks the networks of a group.

    Args:
      predicted: higher is expected to be better.
      reached: final accuracies.

    Source:
      Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33: tau-b; `scipy.stats.kendalltau`.
    """
    first = float(np.mean(reached[predicted == np.max(predicted)]))
    tau = float(np.nan_to_num(stats.kendalltau(predicted, reached).statistic))
    return Agreement(tau, first - float(np.mean(reached)), float(np.max(reached)) - first)


def write_ranking(networks: Sequence[RankedNetwork], directory: Path, *, num_failed: int = 0) -> list[Path]:
    """Returns the files written: ranking.md, ranking.csv and figures/ranking, .svg and .png.

    Args:
      networks: in any order.
      directory: made if missing; files there are replaced, each at once.
      num_failed: networks of the searches that are not among them.

    Raises:
      InputError: no phase has three networks, so there is nothing to rank.
    """
    ordered = sorted(networks, key=lambda each: (each.seed, each.phase, each.network))
    groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda each: (each.seed, each.phase))]
    kept = [group for group in groups if len(group) >= LEAST]
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "ranking.csv", _to_csv(ordered))
    if not kept:
        remedy = f"no phase has {LEAST} networks whose final training succeeded; ranking.csv has those there are"
        raise InputError("workdir", str(directory), remedy)
    told = {
        name: [agreement(_values(group, name), _values(group, "final_accuracy")) for group in kept]
        for name in PREDICTORS
    }
    text = _to_markdown(kept, len(ordered) - sum(map(len, kept)), num_failed, told)
    write_atomically(directory / "ranking.md", text)
    with canvas.style():
        drawn = canvas.write(_draw(kept, told), directory / "figures", "ranking")
    return [directory / "ranking.md", directory / "ranking.csv", *drawn]


def _values(group: Sequence[RankedNetwork], name: str) -> Float[np.ndarray, " networks"]:
    return np.array([getattr(each, name) for each in group], np.float64)


def _to_csv(networks: Sequence[RankedNetwork]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(RankedNetwork))
    writer.writerows(dataclasses.astuple(each) for each in networks)
    return text.getvalue()


def _to_markdown(
    groups: Sequence[Sequence[RankedNetwork]],
    num_left_out: int,
    num_failed: int,
    told: Mapping[str, Sequence[Agreement]],
) -> str:
    sizes = [len(group) for group in groups]
    spreads = [float(np.ptp(_values(group, "final_accuracy"))) for group in groups]
    lines = [
        "# Does fitness rank networks as their final training does?",
        "",
        f"{sum(sizes)} networks in {len(groups)} group{'s' * (len(groups) > 1)}, "
        f"each a phase of a search with {_span(sizes)} of them.",
        "",
        "| ranked by | Kendall's tau | first, less the group's mean | best, less first |",
        "|---|---:|---:|---:|",
    ]
    for name, words in PREDICTORS.items():
        columns = [interval_words(bootstrap_mean(list(column)), sign=True) for column in zip(*told[name], strict=True)]
        lines.append(f"| {words} | {' | '.join(columns)} |")
    lines += [
        "",
        "Networks of a phase are ranked by what a row says and by the accuracy after a final training; the second "
        "column is what choosing the row's first gains in that accuracy over choosing at random, the third what it "
        "leaves. The last row ranks by a second final training with other draws: what it lacks of a tau of 1, and "
        "leaves, is chance. The accuracies after a phase's final trainings lie "
        f"{np.mean(spreads):.4f} apart, mean over phases, from the lowest to the highest.",
        "",
        "Accuracies are of the same validation images in all rows, which makes them agree a little more than they "
        "would on other images; those after a final training are of its best epoch.",
    ]
    if len(groups) > 1:
        lines[-1] += (
            " Brackets are 95 % intervals of the mean over phases by bootstrap; phases of a search are not "
            "independent, so they are too narrow."
        )
    if num_left_out or num_failed:
        few = f"{num_left_out} networks of phases with fewer than {LEAST}"
        lines += ["", f"Not ranked: {few}, and {num_failed} without a fitness or a final accuracy."]
    return "\n".join(lines) + "\n"


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"


def _draw(groups: Sequence[Sequence[RankedNetwork]], told: Mapping[str, Sequence[Agreement]]) -> "Figure":
    """Final accuracy against fitness, both less their group's mean, and against another final training."""
    names = ("fitness", "whole_fitness", "second_accuracy")
    side, between, left = 2.6, 0.4, 0.75
    width = left + len(names) * (side + between)
    notes = [
        "each dot a network, hollow in the first phase; both accuracies less the mean of the networks of its phase"
    ]
    if len(groups) > 1:
        notes.append(f"n = {len(groups)} phases, with the 95 % bootstrap interval of the mean over them")
    title = "What ranks networks as their final training does"
    figure, above = canvas.page_of_words(title, notes, width=width, height=side + 0.6)
    first = [group for group in groups if group[0].phase == 0]
    later = [group for group in groups if group[0].phase > 0]
    for place, name in enumerate(names):
        axes = canvas.add_axes(figure, left + place * (side + between), above, side, side)
        for line in (axes.axhline, axes.axvline):
            line(0.0, color=canvas.GRID, linewidth=0.8, zorder=1)
        for those, face in ((first, "none"), (later, canvas.BLUE)):
            xs, ys = (
                np.concatenate([[], *(_centred(group, of) for group in those)]) for of in (name, "final_accuracy")
            )
            axes.scatter(xs, ys, s=18, facecolor=face, edgecolor=canvas.BLUE, alpha=0.7, linewidth=0.8, zorder=2)
        axes.locator_params(nbins=5, steps=[1, 2, 5, 10])
        tau, low, high = bootstrap_mean([each.tau for each in told[name]])
        interval = f" [{low:.2f}, {high:.2f}]" if len(groups) > 1 else ""
        axes.set_title(f"Kendall's tau {tau:.2f}{interval}", fontsize=canvas.FONT_SIZE)
        axes.set_xlabel(PREDICTORS[name])
        if place:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("accuracy after final training")
    return figure


def _centred(group: Sequence[RankedNetwork], name: str) -> Float[np.ndarray, " networks"]:
    values = _values(group, name)
    return values - np.mean(values)
