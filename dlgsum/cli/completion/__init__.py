"""Completion of the command line at TAB: what fits, and the scripts that ask for it.

A shell's script calls ``dlgsum __complete``, which ``answer`` serves from the Typer app and from the functions of
``completers`` that are attached to its parameters. No module here imports pydantic, Hydra or OmegaConf: those alone
take longer than a TAB may.
"""
