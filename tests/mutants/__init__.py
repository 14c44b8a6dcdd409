"""Proof that the checks can fail: each safety of the service is broken once on purpose, and a check must notice.

- `shop`: the real parts (PostgreSQL, RabbitMQ, the sandbox through Stripe's SDK) and what callers were answered.
- `scenarios`: what happens to them; ordinary functions that know of no mutant.
- `mutants`: every break as data: how it is applied, where it matters, and what it turns red.
- `machine_mutants`: the same for the state machine on fakes.
- `test_mutants`: each scenario is green as the service is, and red, by exactly the invariants named, with each mutant;
  the drawn histories on fakes notice each mutant as well.

The invariants are those of the chaos run (`tools/chaos/invariants.py`).
"""
