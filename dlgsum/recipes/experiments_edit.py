"""Tags and notes of an experiment: into its folder first, then into the index. No torch here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from filelock import FileLock

from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.recipes.experiments import Found, find_experiment
from dlgsum.recipes.stored import Place, opened
from dlgsum.tracking.record import read_record
from dlgsum.tracking.run import RunFolder

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT = 10.0  # seconds; whoever holds it writes one small file


def set_tags(name: str, place: Place, add: Sequence[str], remove: Sequence[str]) -> tuple[Found, list[str]]:
    """Give tags to an experiment and take others from it; return it as it is then, and which it never had.

    They are written to its folder first, then to the index. The run may be running.

    Raises:
        UsageError: a tag has blanks or commas, or the experiment is not found, or has no folder to write to.
        EnvironmentProblem: the folder cannot be written.
    """
    for tag in (*add, *remove):
        if not tag or "," in tag or any(it.isspace() or not it.isprintable() for it in tag):
            raise UsageError(f"'{tag}' cannot be a tag", "A tag is one word without blanks and commas.")
    both = sorted(set(add) & set(remove))
    if both:
        raise UsageError(f"'{both[0]}' is both to be given and to be removed")
    run = _writable(find_experiment(name, place))
    with _annotating(run):
        before = read_record(run).tags
        run.annotate(tags=[tag for tag in dict.fromkeys([*before, *add]) if tag not in remove])
    return _noted(run, place), [tag for tag in remove if tag not in before]


def set_notes(name: str, place: Place, text: str, *, append: bool = False) -> Found:
    """Replace the notes of an experiment, or write another line below them; return it as it is then.

    Raises:
        UsageError: the experiment is not found, or has no folder to write to.
        EnvironmentProblem: the folder cannot be written.
    """
    run = _writable(find_experiment(name, place))
    with _annotating(run):
        before = read_record(run).notes
        run.annotate(notes=f"{before}\n{text}" if append and before else text)
    return _noted(run, place)


def _writable(found: Found) -> RunFolder:
    if found.run is None:
        raise UsageError(
            f"The folder of {found.record.id} is not here: {found.record.folder}",
            "Tags and notes are kept in it, and the index is made from them; do this where the folder is.",
        )
    return found.run


@contextmanager
def _annotating(run: RunFolder) -> Iterator[None]:
    """Let one process at a time read and write the annotations."""
    path = run.path / ".annotations.lock"
    try:
        with FileLock(path, timeout=_LOCK_TIMEOUT):
            yield
    except (OSError, TimeoutError) as error:
        raise EnvironmentProblem(
            f"{run.path} cannot be written: {getattr(error, 'strerror', None) or error}",
            "Tags and notes are kept in the run's folder.",
        ) from error


def _lies_in(run: RunFolder, store: Store) -> bool:
    return run.path.resolve().parent == (store.output_dir / "experiments").resolve()


def _noted(run: RunFolder, place: Place) -> Found:
    """Tell the index; that it cannot be told is no error, because it is made from the folders."""
    try:
        with opened(place) as store:
            store.sync() if _lies_in(run, store) else store.update(run)
    except EnvironmentProblem as error:
        logger.warning("kept in %s; the index learns of it later: %s", run.path, error)
    return Found(read_record(run), run)
