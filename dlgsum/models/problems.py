"""Say in plain words why a checkpoint cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlgsum.core.errors import DlgsumError, EnvironmentProblem

_USE_ANOTHER = "Use another checkpoint, or model=kobart_mini to train a small model from scratch."


def not_a_folder(checkpoint: str) -> None:
    """Raise when a checkpoint is written like a path but is no folder with a configuration.

    Raises:
        EnvironmentProblem: the folder does not exist, is a file, or has no config.json.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EnvironmentProblem(
                f"The folder '{checkpoint}' has no config.json", "Name the folder that a model was saved in."
            )
        return
    if path.is_file():
        raise EnvironmentProblem(f"'{checkpoint}' is a file", "Name the folder that the model was saved in.")
    # A hub name is `name` or `owner/name`; everything else can only be a path.
    if (
        checkpoint.count("/") > 1
        or checkpoint.startswith((".", "/", "~"))
        or checkpoint.endswith("/")
        or "\\" in checkpoint
    ):
        raise EnvironmentProblem(
            f"The folder '{checkpoint}' does not exist", "Check model.checkpoint: a hub name or a folder."
        )


@contextmanager
def explained(checkpoint: str, part: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an EnvironmentProblem about `part` of a checkpoint."""
    try:
        yield
    except (DlgsumError, MemoryError):
        raise
    except Exception as error:  # readers of files raise anything: KeyError, struct.error, SafetensorError, …
        raise EnvironmentProblem(*_explain(checkpoint, part, error)) from error


def _explain(checkpoint: str, part: str, error: BaseException) -> tuple[str, str]:
    """Return what is wrong and what to do, by the kinds of the error and its causes, then by its words."""
    chain = _chain(error)
    kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
    words = " ".join(str(link) for link in chain)
    if "trust_remote_code" in words:
        return (
            f"'{checkpoint}' comes with Python code of its own, which is not run unasked",
            "Read that code; if you trust it, set model.trust_remote_code=true.",
        )
    if "GatedRepoError" in kinds:
        return (
            f"'{checkpoint}' is gated",
            "Accept its terms on the hub's page, and log in with: hf auth login",
        )
    # The hub also answers "not found" for private repositories.
    if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
        return (
            f"'{checkpoint}' is neither a folder nor on the hub (or its revision does not exist)",
            "Check model.checkpoint and model.revision; for a private model, log in with: hf auth login",
        )
    unreachable = {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectError",
        "ConnectionError",
        "TimeoutException",
    }
    if kinds & unreachable or "couldn't connect" in words.lower() or "cannot find the requested files" in words.lower():
        return (
            f"'{checkpoint}' is not in the local cache, and the hub cannot be reached",
            "Connect to the network once, or copy the model's folder here and set model.checkpoint=FOLDER, "
            "or use model=kobart_mini.",
        )
    if part == "tokenizer":
        return f"The tokenizer of '{checkpoint}' cannot be loaded: {_first_line(error)}", (
            "It needs a tokenizer.json or a SentencePiece model beside its config.json. " + _USE_ANOTHER
        )
    if part == "model":
        return f"The weights of '{checkpoint}' cannot be loaded: {_first_line(error)}", (
            "The file may be missing or incomplete: download or copy it again. " + _USE_ANOTHER
        )
    return f"The {part} of '{checkpoint}' cannot be read: {_first_line(error)}", _USE_ANOTHER


def _chain(error: BaseException) -> list[BaseException]:
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
