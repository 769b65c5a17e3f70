"""What may become of a network; imports nothing, because those who only watch need it too."""

OK, STOPPED, DIVERGED = "ok", "stopped", "diverged"
