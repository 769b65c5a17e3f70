"""What pytorch.py has done so far, kept in a directory, so that it goes on after the last network that is complete."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


class Kept:
    """Results of the networks that are complete, and the blocks that later phases inherit, or may.

    Everything is written beside its place and then moved there, blocks first: whenever the process dies, what lies
    there is whole, and no result is without its block.

    Attributes:
      results: of each network, in their order.
    """

    def __init__(self, directory: Path | None, asked: dict):
        """Reads what an earlier process has kept.

        Args:
          directory: made if missing; None keeps nothing.
          asked: all that results depend on, plain values; those of anything else are not read.
        """
        self._directory, self._asked = directory, asked
        self.results: list[dict] = []
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            if self._path.is_file():
                found = json.loads(self._path.read_text())
                if found["asked"] == asked:
                    self.results = found["results"]
                else:
                    self._path.unlink()  # before blocks of the same names take the place of its own

    def find(self, phase: int, individual: int) -> dict | None:
        """Returns a network's result; None if it is not complete."""
        places = ((result["phase"], result["individual"]) for result in self.results)
        return dict(zip(places, self.results, strict=True)).get((phase, individual))

    def add(self, result: dict, block: nn.Module | None) -> None:
        """Takes the result of a complete network, and its block if it is the one to inherit so far."""
        self.results.append(result)
        if self._directory is None:
            return
        if block is not None:
            weights = block.state_dict()
            _replace(self._weights_of(result), lambda part: torch.save(weights, part))
        text = json.dumps({"asked": self._asked, "results": self.results})
        _replace(self._path, lambda part: part.write_text(text))

    def load(self, result: dict, block: nn.Module) -> None:
        """Gives a block the weights that were kept with a result."""
        block.load_state_dict(torch.load(self._weights_of(result), map_location="cpu", weights_only=True))

    @property
    def _path(self) -> Path:
        return self._directory / "results.json"

    def _weights_of(self, result: dict) -> Path:
        return self._directory / f"block-{result['phase']}-{result['individual']}.pt"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)
