"""`make cluster`: the local stack without a single point of failure; its settings are those of `deploy/ha`."""
