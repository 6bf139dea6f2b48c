"""`dlgsum config migrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlgsum.cli.completion.completers import complete_yaml
from dlgsum.cli.output import AsJson, Debug, print_json
from dlgsum.core.console import messages
from dlgsum.core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from dlgsum.config.legacy import Migration


def migrate(
    old: Annotated[
        Path,
        typer.Argument(
            metavar="OLD.yaml", help="A file in the competition baseline's format.", autocompletion=complete_yaml
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="NEW.yaml", help="File to write.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace NEW.yaml if it exists.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Turn an older configuration file into an experiment file, and name every key that cannot be carried.

    Without -o the new file goes to standard output, and the report to standard error.

    Examples:

      dlgsum config migrate config.yaml

      dlgsum config migrate config.yaml -o conf/experiment/mine.yaml
    """
    from dlgsum.config.legacy import migrate as migrated
    from dlgsum.core.files import write_text_atomic

    if output is not None:
        _check_output(output, force=force)
    migration = migrated(_read(old))
    needed = migration.renewed
    text = _render(migration, old, output) if needed else ""
    if output is not None and needed:
        write_text_atomic(output, text)
    if as_json:
        print_json(_as_json(migration, text, output if needed else None))
        return
    if not needed:
        messages().print(f"{old} is in today's format: there is nothing to change", markup=False)
        return
    report = _report(migration, old)
    if output is None:
        typer.echo(text, nl=False)
        typer.echo(report, err=True)
    else:
        typer.echo(report)
    for loss in migration.warnings:
        messages().print(f"warning: not carried: {loss}", style="yellow", markup=False)
    if output is not None:
        messages().print(f"{output} is written; next: dlgsum config validate --config {output}", markup=False)


def _check_output(output: Path, *, force: bool) -> None:
    if output.is_dir():
        raise UsageError(f"{output} is a folder", f"Name a file, such as {output / 'migrated.yaml'}.")
    if output.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(f"{output} is not a YAML file's name", f"Name it {output.with_suffix('.yaml')}.")
    if output.exists() and not force:
        raise UsageError(f"{output} exists", "Choose another name, or replace it with --force.")


def _read(path: Path) -> dict[str, Any]:
    from dlgsum.config.groups import load_yaml

    if path.is_dir():
        raise UsageError(f"{path} is a folder", "Name the YAML file in it.")
    if path.is_file():
        data = path.read_bytes()
        if not _decodes(data, "utf-8") and _decodes(data, "cp949"):
            raise ConfigError(
                [f"{path} is not UTF-8; it reads as cp949"],
                f"Convert a copy and migrate that: iconv -f cp949 -t utf-8 {path} > {path.stem}_utf8{path.suffix}",
            )
    content = load_yaml(path)
    if not content:
        raise ConfigError([f"{path} holds no settings, so there is nothing to migrate"])
    return content


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _render(migration: Migration, old: Path, output: Path | None) -> str:
    """Return the new file, once its settings are known to be good.

    Raises:
        ConfigError: values of the old file that no setting takes; all of them, under the old names.
    """
    from dlgsum.config.compose import compose
    from dlgsum.config.legacy_yaml import experiment_yaml
    from dlgsum.config.request import Request

    try:
        whole = compose(Request(values=migration.as_file(), environ={})).config
    except ConfigError as error:
        raise ConfigError(
            [_in_old_words(problem, migration) for problem in error.problems],
            f"Correct {old}, then migrate it again; nothing was written.",
        ) from None
    # Without the data group, which is not complete without the files that the values name.
    groups = [f"{group}={name}" for group, name in migration.groups.items() if group != "data"]
    base = compose(Request(groups, environ={})).config
    return experiment_yaml(migration, base, whole, source=str(old), target=str(output or "NEW.yaml"))


def _in_old_words(problem: str, migration: Migration) -> str:
    for change in migration.changes:
        key = change.new.partition("=")[0]
        if change.old and change.old != key and problem.startswith((f"{key}=", f"{key}:")):
            return f"{problem} (from {change.old} in the old file)"
    return problem


def _report(migration: Migration, old: Path) -> str:
    from dlgsum.config.legacy_draft import one_line, shown

    rows = [(change.old or "(no key)", change.new or "not needed", change.reason) for change in migration.changes]
    first = max((len(row[0]) for row in rows), default=0)
    second = max((len(row[1]) for row in rows if len(row[1]) <= 60), default=0)
    lines = [one_line(f"{a:<{first}}  →  {b:<{second}}  {why}").rstrip() for a, b, why in rows]
    for target, path in migration.absent.items():
        lines.append(f"{target} is left out, since there is no {shown(path)}; set it once there is")
    count = len(migration.warnings)
    return "\n".join([*lines, "", f"{old}: {migration.carried} keys carried or not needed, {count} not carried"])


def _as_json(migration: Migration, text: str, output: Path | None) -> dict[str, Any]:
    return {
        "legacy": migration.legacy,
        "changed": migration.renewed,
        "groups": migration.groups,
        "values": migration.values,
        "changes": [{"old": it.old, "new": it.new, "reason": it.reason} for it in migration.changes],
        "warnings": [{"key": it.key, "value": it.value, "reason": it.reason} for it in migration.warnings],
        "absent": migration.absent,
        "yaml": text,
        "output": None if output is None else str(output),
    }
