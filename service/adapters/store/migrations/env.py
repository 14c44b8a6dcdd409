"""Alembic's entry: `service.adapters.store.migrate` hands over the connection and owns the transaction."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
