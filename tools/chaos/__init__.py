"""Breaks a running system at random and checks that nothing is lost and nobody charged twice; no unit tests."""
