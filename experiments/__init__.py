"""Experiments: what to run, one file each; default.py states every knob once."""
