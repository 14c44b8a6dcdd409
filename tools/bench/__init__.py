"""Measures a running system and keeps the figures; judges no correctness, which tests and `tools.chaos` do."""
