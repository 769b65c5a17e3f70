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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST = 3  # networks of a group: of two any order is a perfect one
PREDICTORS: Mapping[str, str] = {
    "fitness": "fitness in the search",
    "whole_fitness": "fitness, trained whole",
    "num_flops": "operations",
    "num_parameters": "parameters",
}
"""Fields of `RankedNetwork` that are known before a final training, and what they are called."""


@dataclasses.dataclass(frozen=True)
class RankedNetwork:
    """A network that a search judged after all its epochs; accuracies are of the validation images, in [0, 1].

    Attributes:
      seed, phase: where the search met it first, from 0.
      network: digest of the request that gave its fitness.
      num_flops: operations of one image's forward pass.
      num_parameters: trainable values.
      fitness: in the search.
      whole_fitness: after as many epochs of all its blocks, from fresh weights.
      final_accuracy: after its final training, from fresh weights.
    """

    seed: int
    phase: int
    network: str
    num_flops: int
    num_parameters: int
    fitness: float
    whole_fitness: float
    final_accuracy: float


class Ranks(NamedTuple):
    """What a predictor says of a group's final accuracies.

    Attributes:
      tau: Kendall's, in [-1, 1]; 0 where all values are equal.
      gain: final accuracy of the network it puts first, of several the mean, less the group's mean.
      loss: the group's best final accuracy less that network's.
    """

    tau: float
    gain: float
    loss: float


def ranks(predicted: Float[np.ndarray, " networks"], reached: Float[np.ndarray, " networks"]) -> Ranks:
    """Returns how well a predictor ranks the networks of a group.

    Args:
      predicted: higher is expected to be better.
      reached: final accuracies.

    Source:
      Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33: tau-b; `scipy.stats.kendalltau`.
    """
    first = float(np.mean(reached[predicted == np.max(predicted)]))
    tau = float(np.nan_to_num(stats.kendalltau(predicted, reached).statistic))
    return Ranks(tau, first - float(np.mean(reached)), float(np.max(reached)) - first)


def write_ranking(networks: Sequence[RankedNetwork], directory: Path) -> list[Path]:
    """Returns the files written: ranking.md, ranking.csv and figures/ranking, .svg and .png.

    Args:
      networks: in any order.
      directory: made if missing; files there are replaced, each at once.

    Raises:
      InputError: no phase has three networks, so there is nothing to rank.
    """
    ordered = sorted(networks, key=lambda each: (each.seed, each.phase, each.network))
    groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda each: (each.seed, each.phase))]
    kept = [group for group in groups if len(group) >= _LEAST]
    if not kept:
        remedy = f"no phase trained {_LEAST} networks to the end; raise config.base.search.population_size"
        raise InputError("config.base.search.population_size", "", remedy)
    told = {
        name: [ranks(_values(group, name), _values(group, "final_accuracy")) for group in kept] for name in PREDICTORS
    }
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "ranking.csv", _to_csv(ordered))
    write_atomically(directory / "ranking.md", _to_markdown(kept, len(groups) - len(kept), told))
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
    groups: Sequence[Sequence[RankedNetwork]], num_left_out: int, told: Mapping[str, Sequence[Ranks]]
) -> str:
    sizes = [len(group) for group in groups]
    spreads = [float(np.ptp(_values(group, "final_accuracy"))) for group in groups]
    lines = [
        "# Does fitness rank networks as their final training does?",
        "",
        f"{sum(sizes)} networks in {len(groups)} groups, each a phase of a search with {_span(sizes)} of them.",
        "",
        "| ranked by | Kendall's tau | first, less the group's mean | best, less first |",
        "|---|---:|---:|---:|",
    ]
    for name, words in PREDICTORS.items():
        columns = [interval_words(bootstrap_mean(list(column)), sign=True) for column in zip(*told[name], strict=True)]
        lines.append(f"| {words} | {' | '.join(columns)} |")
    lines += [
        "",
        "Accuracies are of the validation images. The second column is what choosing by a row's values gains in final "
        "accuracy over choosing at random, the third what it leaves. A group's final accuracies lie "
        f"{np.mean(spreads):.4f} apart, mean over groups, from the lowest to the highest. Brackets are 95 % intervals "
        "of the mean over groups by bootstrap; groups of a search share their frozen blocks, so they are too narrow.",
    ]
    if num_left_out:
        lines += ["", f"Phases that trained fewer than {_LEAST} networks to the end, and do not count: {num_left_out}."]
    return "\n".join(lines) + "\n"


def _span(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"


def _draw(groups: Sequence[Sequence[RankedNetwork]], told: Mapping[str, Sequence[Ranks]]) -> "Figure":
    """Final accuracy against fitness, both less their group's mean, for each of the two fitnesses."""
    names = ("fitness", "whole_fitness")
    side, between, left = 3.0, 0.45, 0.75
    width = left + len(names) * side + between + 0.15
    notes = ["each dot a network; both accuracies less the mean of the networks of its phase"]
    notes.append(f"n = {len(groups)} phases, with the 95 % bootstrap interval of the mean over them")
    figure, above = canvas.page_of_words("Final accuracy against fitness", notes, width=width, height=side + 0.6)
    ys = np.concatenate([_centred(group, "final_accuracy") for group in groups])
    for place, name in enumerate(names):
        axes = canvas.add_axes(figure, left + place * (side + between), above, side, side)
        _draw_dots(axes, np.concatenate([_centred(group, name) for group in groups]), ys)
        tau, low, high = bootstrap_mean([each.tau for each in told[name]])
        axes.set_title(f"Kendall's tau {tau:.2f} [{low:.2f}, {high:.2f}]", fontsize=canvas.FONT_SIZE)
        axes.set_xlabel(PREDICTORS[name])
        if place:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("accuracy after final training")
    return figure


def _centred(group: Sequence[RankedNetwork], name: str) -> Float[np.ndarray, " networks"]:
    values = _values(group, name)
    return values - np.mean(values)


def _draw_dots(axes: "Axes", xs: Float[np.ndarray, " networks"], ys: Float[np.ndarray, " networks"]) -> None:
    for line in (axes.axhline, axes.axvline):
        line(0.0, color=canvas.GRID, linewidth=0.8, zorder=1)
    axes.locator_params(nbins=6)
    axes.scatter(xs, ys, s=18, color=canvas.BLUE, alpha=0.7, linewidth=0, zorder=2)
