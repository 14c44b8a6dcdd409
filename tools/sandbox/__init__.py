"""The local stand-in for Stripe: its API, its hosted page and faults on demand; nothing that a real payment needs.

It speaks Stripe's wire protocol (version 2026-10-28.endive) to the real SDK, keeps everything in memory and opens no
connection of its own. Start it with ``python -m tools.sandbox``.

Where to look: ``stripe_api`` is the path of one API call (key, limits, idempotency), ``operations`` what each endpoint
does, ``parameter_schemas`` and ``session_rules`` what it accepts, ``accounts`` and ``account`` the state,
``after_payment`` delayed payments, refunds and disputes, ``objects`` and ``charges`` how Stripe's objects look,
``cards`` the test cards, ``hosted_page`` what the payer sees, ``control_api`` the calls for tests and demos,
``fault_injector`` the faults, ``stepped_clock`` the time.
"""
