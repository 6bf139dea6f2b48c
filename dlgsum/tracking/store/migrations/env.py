"""Run by Alembic: the migrations, on the connection that ``dlgsum.tracking.store.schema`` gives."""

from alembic import context

from dlgsum.tracking.store.schema import VERSION_TABLE
from dlgsum.tracking.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite changes a column only by making the table anew
)
with context.begin_transaction():
    context.run_migrations()
