"""Experiments."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.String(255), nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("output_dir", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("started", sa.DateTime(timezone=True)),
        sa.Column("ended", sa.DateTime(timezone=True)),
        sa.Column("seconds", sa.Double),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("config_hash", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger),
        sa.Column("git_commit", sa.String(64)),
        sa.Column("git_dirty", sa.Boolean),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("hardware", sa.JSON, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("rows", sa.JSON, nullable=False),
        sa.Column("parent", sa.String(255)),
        sa.Column("parent_kind", sa.String(20), nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("best_metrics", sa.JSON, nullable=False),
        sa.Column("final_metrics", sa.JSON, nullable=False),
        sa.Column("test_metrics", sa.JSON, nullable=False),
        sa.Column("signature", sa.Text, nullable=False),
        sa.Column("test_signature", sa.Text, nullable=False),
        sa.Column("validation_fingerprint", sa.String(64), nullable=False),
        sa.Column("best_step", sa.BigInteger),
        sa.Column("steps", sa.BigInteger),
        sa.Column("total_steps", sa.BigInteger),
        sa.Column("model_path", sa.Text),
        sa.Column("wandb_run_id", sa.Text),
        sa.Column("stamp", sa.BigInteger, nullable=False),
        sa.Column("missing", sa.Boolean, nullable=False),
        sa.Column("recorded_on", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("config_hash", "host", "output_dir", "parent", "started", "status"):
        op.create_index(f"ix_experiments_{column}", "experiments", [column])
