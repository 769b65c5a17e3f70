"""The headline table: CIFAR-10, whole, on one GPU; `python -m benchmarks.headline`."""
