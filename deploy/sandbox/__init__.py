"""The sandbox: a stand-in for Stripe that a laptop can run, with its API, its hosted page and faults on demand.

It speaks Stripe's wire protocol (version 2026-10-28.endive) to the real SDK, keeps everything in memory, and never
talks to anybody. Start it with ``python -m deploy.sandbox``.

Where to look: ``api`` is the path of one API call (key, limits, idempotency), ``operations`` what each endpoint
does, ``schemas`` and ``rules`` what it takes, ``state`` what the account remembers, ``objects`` how Stripe's objects
look, ``cards`` the test cards, ``hosted`` the page a payer sees, ``control`` the calls for tests and demos.
"""
