"""Weight transfer: whole blocks into a longer network, or what fits into another one; and what is frozen.

Variables are `{"params": {block_0, ..., head}, "batch_stats": {block_0, ...}}`; a suffix calls its first block
`block_0`. Where images are whitened, `batch_stats` has `whitening`, too, which goes along with `block_0`.
"""

from typing import Any

import jax
import optax

from vlga_jax.network.whitening import WHITENING

Variables = dict[str, Any]

TRAINABLE, FROZEN = "trainable", "frozen"


def merge(inherited: Variables, suffix: Variables, num_inherited: int) -> Variables:
    """Returns the variables of the whole network: inherited blocks, then the suffix's blocks and head.

    Args:
      inherited: of a network with at least `num_inherited` blocks; its head is left out.
      suffix: of the network after these blocks.
      num_inherited: leading blocks to inherit.
    """
    merged: Variables = {}
    for collection in ("params", "batch_stats"):
        old, new = inherited.get(collection, {}), suffix.get(collection, {})
        names = (WHITENING, *(f"block_{index}" for index in range(num_inherited)))
        kept = {name: old[name] for name in names if name in old}
        moved = {_renamed(name, num_inherited): tree for name, tree in new.items()}
        if kept or moved or collection == "params":
            merged[collection] = {**kept, **moved}
    return merged


def matching(fresh: Variables, inherited: Variables, sources: tuple[int | None, ...]) -> Variables:
    """Returns `fresh` with every leaf that fits taken from `inherited`, the very arrays.

    A leaf fits if it has the same shape and the same place in its block (a/conv/kernel, ...), or in the head; a layer's
    kernel may fit where its batch norm does not, and the other way around.

    Args:
      fresh: of the network to be trained.
      inherited: of a trained one.
      sources: for each block of `fresh` the block of `inherited` to take from; None leaves it fresh.

    Source:
      Real et al. 2017 (arXiv 1703.01041), weight inheritance: a layer whose shapes match keeps its weights. Here each
      leaf is matched for itself.
    """
    leaves = jax.tree_util.tree_leaves_with_path(inherited)
    old: dict[tuple[str | None, ...], Any] = {_names(path): leaf for path, leaf in leaves}
    origins = {f"block_{index}": None if source is None else f"block_{source}" for index, source in enumerate(sources)}

    def chosen(path: Any, leaf: Any) -> Any:
        collection, part, *place = _names(path)
        origin = part if part in ("head", WHITENING) else origins[part]
        candidate = old.get((collection, origin, *place))
        return candidate if candidate is not None and candidate.shape == leaf.shape else leaf

    return jax.tree_util.tree_map_with_path(chosen, fresh)


def of_block(variables: Variables, block: int) -> Variables:
    """Returns the variables of a network of one block of these, without a head; the very arrays."""
    names = {f"block_{block}": "block_0", **({WHITENING: WHITENING} if block == 0 else {})}
    parts = {
        collection: {new: tree[old] for old, new in names.items() if old in tree}
        for collection, tree in variables.items()
    }
    return {collection: part for collection, part in parts.items() if part}


def labels(params: dict[str, Any], num_frozen: int) -> dict[str, Any]:
    """Returns a tree like `params` whose leaves say whether they are frozen or trainable."""
    frozen = {f"block_{index}" for index in range(num_frozen)}
    return {
        name: jax.tree.map(lambda _, label=FROZEN if name in frozen else TRAINABLE: label, tree)
        for name, tree in params.items()
    }


def freeze(optimizer: optax.GradientTransformation, num_frozen: int) -> optax.GradientTransformation:
    """Returns the optimizer with zero updates, and no moments, for the leading `num_frozen` blocks."""
    return optax.multi_transform(
        {TRAINABLE: optimizer, FROZEN: optax.set_to_zero()}, lambda params: labels(params, num_frozen)
    )


def stop_frozen_gradients(params: dict[str, Any], num_frozen: int) -> dict[str, Any]:
    """Returns the same values; no gradient is computed for frozen leaves."""
    return jax.tree.map(
        lambda leaf, label: jax.lax.stop_gradient(leaf) if label == FROZEN else leaf, params, labels(params, num_frozen)
    )


def keep_frozen(new: dict[str, Any], old: dict[str, Any], num_frozen: int) -> dict[str, Any]:
    """Returns `new` with the frozen subtrees of `old`: the very same bits, -0.0 included, which adding 0 would lose."""
    frozen = {f"block_{index}" for index in range(num_frozen)}
    return {name: old[name] if name in frozen else tree for name, tree in new.items()}


def _renamed(name: str, shift: int) -> str:
    return f"block_{int(name.removeprefix('block_')) + shift}" if name.startswith("block_") else name


def _names(path: Any) -> tuple[str, ...]:
    return tuple(step.key for step in path)
