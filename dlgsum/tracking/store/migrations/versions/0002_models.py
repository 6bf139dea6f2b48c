"""Registered models, and the changes of their aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.String(250), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("architecture", sa.String(100), nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("performance", sa.JSON, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("validation_fingerprint", sa.String(64), nullable=False),
        sa.Column("training_info", sa.JSON, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("output_dir", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.Column("experiment_id", sa.String(255)),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "version"),
    )
    for column in ("architecture", "experiment_id", "name"):
        op.create_index(f"ix_models_{column}", "models", [column])
    op.create_table(
        "alias_events",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("alias", sa.String(100), nullable=False),
        sa.Column("model_id", sa.String(250)),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_alias_events_alias", "alias_events", ["alias"])
