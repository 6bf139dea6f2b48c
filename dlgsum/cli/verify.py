"""What `dlgsum resume --verify` prints."""

from __future__ import annotations

import dataclasses

import typer

from dlgsum.cli.output import print_json
from dlgsum.core.console import results
from dlgsum.recipes.verify import Proof


def show_proof(proof: Proof, as_json: bool) -> None:
    """Print whether resuming changed anything; the exit code is 5 where it did."""
    if as_json:
        print_json({"identical": not proof.differences, **dataclasses.asdict(proof)})
    elif proof.differences:
        results().print("resuming is NOT exact here: " + "; ".join(proof.differences), markup=False)
        results().print("On a GPU, training.full_determinism=true makes every run of a machine the same.")
    else:
        results().print("resuming is exact here: the resumed run is the straight run, bit for bit")
    if proof.differences:
        raise typer.Exit(5)
