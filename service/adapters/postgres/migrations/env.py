"""Alembic's entry: `service.adapters.postgres.migrate` hands over the connection. Each migration is a transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
