"""Random keys: one root key a run, one named stream a purpose, so that no key serves two uses."""

import zlib

import jax

from vlga_jax.shapes import Array, PRNGKeyArray


def stream(key: PRNGKeyArray, purpose: str, *places: int | Array) -> PRNGKeyArray:
    """Returns the key of a purpose, and of a place within it (phase, generation, individual, epoch, ...).

    Args:
      key: a root or a stream; may be given again for other purposes and places, and must not be used to draw.
      purpose: a name; its CRC-32 is folded in.
      places: whole numbers from 0, folded in one after the other.
    """
    key = jax.random.fold_in(key, zlib.crc32(purpose.encode()))
    for place in places:
        key = jax.random.fold_in(key, place)
    return key
