"""Proof that the checkers can fail: each safety of the service is broken once on purpose, and must be missed.

- `shop`: the real parts (PostgreSQL, RabbitMQ, the sandbox through Stripe's SDK) and what their callers were told.
- `scenarios`: what happens to them; ordinary functions that know of no mutant.
- `mutants`: the breaks, as data: how each is applied, in which scenario it matters, and which invariants it turns red.
- `test_mutants`: every scenario is green as the service is, and red, by exactly those invariants, with each mutant.

The invariants are those of the chaos run (`tests/chaos/invariants.py`), so what is shown here is shown of it too.
"""
