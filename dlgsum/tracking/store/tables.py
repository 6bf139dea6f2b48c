"""The tables of the index. A change here needs a migration in ``migrations/versions``, and a test says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)  # fmt: skip
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A time in UTC; SQLite has no zones and would give it back without."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time with its zone."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables."""

    # A constraint that has a name can be changed by a later migration.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s",
        }
    )  # fmt: skip
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON, datetime: Moment}  # noqa: RUF012


class Experiment(Base):
    """One run: the fields of ``ExperimentRecord``, and when its folder was read.

    ``stamp`` is the newest time of change of the files that the row was read from, in nanoseconds; ``missing`` says
    that the folder was not there when it was last looked for. ``recorded_on`` is the machine that read the folder; it
    need not be the one that the run was on, and only there ``folder`` has a meaning.
    """

    __tablename__ = "experiments"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    folder: Mapped[str] = mapped_column(Text)
    output_dir: Mapped[str] = mapped_column(Text, index=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(20), index=True)
    reason: Mapped[str] = mapped_column(Text)
    started: Mapped[datetime | None] = mapped_column(index=True)
    ended: Mapped[datetime | None]
    seconds: Mapped[float | None] = mapped_column(Double)
    config: Mapped[dict[str, Any]]
    config_hash: Mapped[str] = mapped_column(String(64), index=True)
    seed: Mapped[int | None] = mapped_column(BigInteger)
    git_commit: Mapped[str | None] = mapped_column(String(64))
    git_dirty: Mapped[bool | None]
    command: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(255), index=True)
    hardware: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]
    data: Mapped[dict[str, Any]]
    rows: Mapped[dict[str, Any]]
    parent: Mapped[str | None] = mapped_column(String(255), index=True)
    parent_kind: Mapped[str] = mapped_column(String(20))
    tags: Mapped[list[str]]
    notes: Mapped[str] = mapped_column(Text)
    best_metrics: Mapped[dict[str, Any]]
    final_metrics: Mapped[dict[str, Any]]
    test_metrics: Mapped[dict[str, Any]]
    signature: Mapped[str] = mapped_column(Text)
    test_signature: Mapped[str] = mapped_column(Text)
    validation_fingerprint: Mapped[str] = mapped_column(String(64))
    best_step: Mapped[int | None] = mapped_column(BigInteger)
    steps: Mapped[int | None] = mapped_column(BigInteger)
    total_steps: Mapped[int | None] = mapped_column(BigInteger)
    model_path: Mapped[str | None] = mapped_column(Text)
    wandb_run_id: Mapped[str | None] = mapped_column(Text)
    stamp: Mapped[int] = mapped_column(BigInteger, default=0)
    missing: Mapped[bool] = mapped_column(default=False)
    recorded_on: Mapped[str] = mapped_column(String(255), default="")


class Model(Base):
    """One registered model; the truth is ``<output_dir>/models/<id>.json``.

    ``sha256`` is of the list of ``files``, which holds ``{"sha256", "size"}`` of each file of the model's folder.
    """

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[str] = mapped_column(String(250), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), index=True)
    version: Mapped[int]
    architecture: Mapped[str] = mapped_column(String(100), index=True)
    checkpoint: Mapped[str] = mapped_column(Text)
    config: Mapped[dict[str, Any]]
    performance: Mapped[dict[str, Any]]
    signature: Mapped[str] = mapped_column(Text)
    validation_fingerprint: Mapped[str] = mapped_column(String(64))
    training_info: Mapped[dict[str, Any]]
    path: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(255))
    output_dir: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[dict[str, Any]]
    experiment_id: Mapped[str | None] = mapped_column(String(255), index=True)
    created: Mapped[datetime]


class AliasEvent(Base):
    """One change of an alias; the newest event of an alias says which model it means, None: no model any more.

    The truth is ``<output_dir>/models/aliases.jsonl``.
    """

    __tablename__ = "alias_events"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100), index=True)
    model_id: Mapped[str | None] = mapped_column(String(250))
    time: Mapped[datetime]
    by: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
