"""Alembic's environment: runs on the connection that `celeriac.database.migrate` gives it."""

from alembic import context

from celeriac.database.base import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=context.config.attributes["version_table"],
    include_object=context.config.attributes.get("include_object"),
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
