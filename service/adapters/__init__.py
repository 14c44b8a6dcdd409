"""The ports' implementations: the PostgreSQL store, the outbox in it, and Stripe."""
