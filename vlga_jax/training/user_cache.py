"""Where files live that can be made again: decoded images, compiled programs."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Returns this project's directory in the user's cache, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "vlga_jax"
