"""`dlgsum config`."""

from __future__ import annotations

import dataclasses

import typer

from dlgsum.cli.output import AsJson, ConfigDir, ConfigFile, Debug, Overrides, print_json, request

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Look at the configuration."""


@app.command()
def show(
    overrides: Overrides = None,
    config: ConfigFile = None,
    config_dir: ConfigDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print the whole configuration that `dlgsum train` would use, as YAML that --config reads back.

    model=auto and data=auto are settled as a run would settle them now.

    Example:

      dlgsum config show experiment=baseline training.learning_rate=3e-5
    """
    from dlgsum.config.compose import to_yaml
    from dlgsum.recipes import wiring

    settled = wiring.settle(request(overrides, config, config_dir))
    if as_json:
        print_json({"config": dataclasses.asdict(settled.config), "reasons": settled.reasons})
        return
    for part, reason in settled.reasons.items():
        typer.echo(f"# {part}: {reason}")
    typer.echo(to_yaml(settled.config), nl=False)
