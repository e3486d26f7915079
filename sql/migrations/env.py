"""Alembic's entry: applies the plain SQL beside it, inside one transaction."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="nightshift",
)
connection.exec_driver_sql("set local role nightshift_owner")
with context.begin_transaction():
    context.run_migrations()
