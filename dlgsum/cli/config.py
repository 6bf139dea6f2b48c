"""`dlgsum config`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlgsum.cli import migrate
from dlgsum.cli.completion.completers import complete_config_name, complete_keys, complete_yaml
from dlgsum.cli.output import AsJson, ConfigDir, ConfigFile, Debug, Overrides, print_json, print_table, request
from dlgsum.core.console import messages, results
from dlgsum.core.files import is_file

if TYPE_CHECKING:
    from dlgsum.config.explain import Explanation
    from dlgsum.config.origin import Setting

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


app.command("migrate")(migrate.migrate)


@app.callback()
def root() -> None:
    """Look at the configuration, check it, compare it, bring old files along."""


@app.command()
def show(
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Show what set each value, to the line, and what it overrode.")
    ] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="As --origin, but only what differs from the defaults.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print the whole configuration that `dlgsum train` would use, as YAML that --config reads back.

    model=auto and data=auto are settled as a run would settle them now.

    Examples:

      dlgsum config show experiment=baseline training.learning_rate=3e-5

      dlgsum config show --origin --changed model=kobart
    """
    from dlgsum.config.compose import to_yaml
    from dlgsum.config.explain import explain_all
    from dlgsum.config.masking import plain
    from dlgsum.recipes.settle import settle

    settled = settle(request(overrides, config, config_dir))
    origin = origin or changed
    settings = explain_all(settled.config, settled.history) if origin else []
    if changed:
        settings = [it for it in settings if it.value != it.default]
    if as_json:
        listed = {"settings": [_as_dict(it) for it in settings]} if origin else {}
        print_json({"config": plain(settled.config), "reasons": settled.reasons, **listed})
        return
    for part, reason in settled.reasons.items():
        typer.echo(f"# {part}: {reason}")
    if origin:
        rows = [[it.key, _yaml(it.value), _set_by(it), "; ".join(_overridden(it))] for it in settings]
        print_table("", ["setting", "value", "set by", "instead of"], rows, justify="left")
    else:
        typer.echo(to_yaml(settled.config), nl=False)


@app.command()
def explain(
    key: Annotated[
        str,
        typer.Argument(
            help="A setting, a section, or a group, such as training.batching or model.", autocompletion=complete_keys
        ),
    ],
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what a setting means: help, type, range, default, present value, and what set it.

    Of a group it lists the files with a line each.

    Examples:

      dlgsum config explain training.learning_rate model=kobart

      dlgsum config explain model
    """
    from dlgsum.config.compose import compose
    from dlgsum.config.explain import explain as explain_key
    from dlgsum.config.explain import group_files, section_help
    from dlgsum.config.groups import group_options, search_path
    from dlgsum.config.schema import key_names
    from dlgsum.recipes.configurations import with_metric_names

    key = key.rstrip(".")  # completion ends a section with a dot
    overrides = [*([key] if "=" in key else []), *(overrides or [])]  # `explain model=kobart` is about model
    key = key.partition("=")[0]
    asked = request(overrides, config, config_dir)
    composition = compose(asked)
    folders = search_path(config_dir)
    groups = group_options(folders)
    files = group_files(folders, key, groups[key]) if key in groups else {}
    # A group such as `experiment` has no section of its own.
    found = explain_key(key, composition.config, composition.history) if not files or key in key_names() else []
    found = with_metric_names(found, composition.config)
    if as_json:
        chosen = composition.groups.get(key)
        print_json({"key": key, "files": files, "chosen": chosen, "settings": [_as_dict(it) for it in found]})
        return
    if len(found) == 1 and found[0].key == key:
        _show_setting(found[0])
        return
    if found:
        results().print(f"{key}: {section_help(key)}", markup=False)
    if files:
        rows = [[f"{key}={name}", text] for name, text in files.items()]
        print_table(f"Files of the group (now {key}={composition.groups.get(key, 'null')})", ["", ""], rows,
                    justify="left")  # fmt: skip
    if found:
        rows = [[it.key, _yaml(it.value), " ".join(filter(None, (it.type, it.range))), it.help] for it in found]
        print_table("Settings", ["setting", "value", "type", "help"], rows, justify="left")


@app.command()
def validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]... [OVERRIDES]...",
            help="YAML files, and overrides for each.",
            autocompletion=complete_yaml,
        ),
    ] = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Check configurations and report every problem at once; nothing is loaded.

    Each FILE is checked as `--config FILE` would use it. Without one, the defaults with the overrides are.

    Examples:

      dlgsum config validate my.yaml

      dlgsum config validate conf/experiment/*.yaml model=kobart_mini
    """
    from dlgsum.recipes import configurations

    given = [*([] if config is None else [str(config)]), *(files or [])]
    paths = [Path(name) for name in given if "=" not in name or is_file(Path(name))]
    overrides = [name for name in given if Path(name) not in paths]
    verdicts = configurations.check_all(paths, request(overrides, None, config_dir))
    if as_json:
        print_json(
            {"valid": all(verdicts), "files": [{"valid": bool(it), **dataclasses.asdict(it)} for it in verdicts]}
        )
    else:
        for verdict in verdicts:
            results().print(str(verdict), style="green" if verdict else "red", markup=False)
            for warning in verdict.warnings:
                results().print(f"  • warning: {warning}", style="yellow", markup=False)
    codes = [verdict.exit_code for verdict in verdicts if verdict.exit_code]
    if codes:
        raise typer.Exit(min(codes))


@app.command()
def diff(
    left: Annotated[
        str,
        typer.Argument(
            help="A file, a run, an experiment, 'GROUP=NAME KEY=VALUE', or defaults.",
            autocompletion=complete_config_name,
        ),
    ],
    right: Annotated[str, typer.Argument(help="Likewise.", autocompletion=complete_config_name)],
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what differs between two configurations, setting by setting, with what set each.

    Environment variables play no part.

    Examples:

      dlgsum config diff defaults baseline

      dlgsum config diff my.yaml latest
    """
    from dlgsum.config.diff import differences
    from dlgsum.recipes import configurations

    found = differences(configurations.named(left, config_dir), configurations.named(right, config_dir))
    if as_json:
        print_json({"left": left, "right": right, "differences": [dataclasses.asdict(it) for it in found]})
        return
    if not found:
        results().print(f"{left} and {right} are the same configuration.", markup=False)
        return
    rows = [
        [it.key, _yaml(it.left), _yaml(it.right), it.left_origin or "default", it.right_origin or "default"]
        for it in found
    ]
    print_table("", ["setting", left, right, f"{left}: set by", f"{right}: set by"], rows, justify="left")
    messages().print(f"{len(found)} setting{'s differ' if len(found) > 1 else ' differs'}", markup=False)


def _show_setting(it: Explanation) -> None:
    lines = {
        "": it.help,
        "type": it.type,
        "range": it.range,
        "one of": "" if "one of" in it.type or it.type == "true or false" else ", ".join(it.choices),
        "default": _yaml(it.default),
        "now": f"{_yaml(it.value)}  ({_set_by(it)})",
        "instead of": "; ".join(_overridden(it)),
    }
    results().print(it.key, style="bold", markup=False)
    for name, text in lines.items():
        if text:
            results().print(f"  {name + ':' if name else '':<12}{text}" if name else f"  {text}", markup=False)


def _set_by(it: Explanation) -> str:
    return _origin(it.history[-1]) if it.history else "default"


def _overridden(it: Explanation) -> list[str]:
    """Return what the present value took the place of, the nearest first; the default only where a value was set."""
    below = [f"{_yaml(setting.value)} ({_origin(setting)})" for setting in reversed(it.history[:-1])]
    return [*below, f"{_yaml(it.default)} (default)"] if it.history else []


def _origin(setting: Setting) -> str:
    kinds = {"variable": "environment variable ", "argument": "argument "}
    return f"{kinds.get(setting.origin.kind, '')}{setting.origin}"


def _as_dict(it: Explanation) -> dict[str, Any]:
    history = [{"value": setting.value, "set_by": dataclasses.asdict(setting.origin)} for setting in it.history]
    return {**dataclasses.asdict(it), "history": history}


def _yaml(value: object) -> str:
    """Return a value as an override has it, without needless quotes."""
    if isinstance(value, str):
        return value if value else "''"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
