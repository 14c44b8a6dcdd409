"""The ports' real sides: the PostgreSQL store, the outbox in it, and Stripe."""
