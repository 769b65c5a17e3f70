"""What may become of a network besides a `TrainingFailure`; imports nothing: those who only watch need it, too."""

OK, STOPPED = "ok", "stopped"
_REJECTED = "too_many_"  # what there is too much of follows


def too_many(cost: str) -> str:
    """Returns the status of a network that costs too much to be trained: too_many_flops for "flops"."""
    return _REJECTED + cost


def rejecting_limit(status: str) -> str:
    """Returns the field of the limit that a rejection's status names: max_flops for too_many_flops."""
    return f"max_{status.removeprefix(_REJECTED)}"


def is_rejection(status: str) -> bool:
    """Whether a network with this status was not even begun, because of a limit."""
    return status.startswith(_REJECTED)
