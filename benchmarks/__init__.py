"""This project measured against its peers: `make bench`; one list of networks: `python -m benchmarks.evaluate`."""
