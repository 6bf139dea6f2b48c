"""The registry of models: every trained model with its scores, its files and its aliases."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from dlgsum.config.masking import hidden
from dlgsum.core.errors import EnvironmentProblem, UsageError
from dlgsum.core.masking import masked, masked_values
from dlgsum.tracking.registry import aliases, ranking
from dlgsum.tracking.registry.aliases import AliasEvent
from dlgsum.tracking.registry.files import digest, hashed, look_at, placed
from dlgsum.tracking.registry.model import RegisteredModel, numbers, read_models, write_model
from dlgsum.tracking.registry.names import check_alias, model_id, parts_of, safe_name
from dlgsum.tracking.registry.resolving import resolve
from dlgsum.tracking.registry.shared import Shared

if TYPE_CHECKING:
    from dlgsum.tracking.store.store import Store

logger = logging.getLogger(__name__)

Reuse = Callable[[RegisteredModel, Mapping[str, Any]], bool]


class ModelRegistry:
    """The models registered in a folder of results, and in a database that several of them share.

    Each model is a file ``<output_dir>/models/<name>-v<version>.json``, and aliases are events in ``aliases.jsonl``
    beside them. Those files are the truth; the database is an index of them. One that is lost or cannot be reached is
    warned about: what these files say is known all the same. The models of other output folders come from it.

    Args:
        output_dir: the folder of all results.
        store: an open index, or its URL; None: dlgsum.db in ``output_dir``.
    """

    def __init__(self, output_dir: str | Path = "./outputs", store: Store | str | None = None) -> None:
        self.output_dir = Path(output_dir).absolute()
        self.folder = self.output_dir / "models"
        self.shared = Shared(store, self.output_dir)
        self._lock = FileLock(self.folder / ".lock", timeout=120)
        self._said: set[str] = set()

    def register_model(
        self,
        name: str,
        architecture: str,
        checkpoint: str,
        config: Mapping[str, Any],
        performance: Mapping[str, float],
        training_info: Mapping[str, Any],
        file_path: str | Path,
        experiment_id: str | None = None,
        signature: str = "",
        validation_fingerprint: str = "",
    ) -> str:
        """Register a model as the next version of its name, and return its id, such as ``kobart-v3``.

        Every file of its folder is read, for its hash. Secrets in ``config`` and ``training_info`` are not kept.

        Args:
            name: made safe for file names; Hangul may stay.
            checkpoint: what it was trained from; a folder is kept as an absolute path.
            performance: metrics; NaN is kept, and never wins.
            file_path: the model's folder.
            experiment_id: the run that trained it.
            signature: how the metrics were computed.
            validation_fingerprint: identifies the rows that they were computed on.

        Raises:
            UsageError: the folder is missing or empty, or a metric is no number.
            EnvironmentProblem: the registration cannot be written.
        """
        return self.register(
            name, Path(file_path), architecture=str(architecture), checkpoint=masked(placed(str(checkpoint), Path())),
            config=masked_values(hidden("", dict(config))), performance=numbers(performance),
            training_info=masked_values(dict(training_info)), experiment_id=experiment_id,
            signature=signature, validation_fingerprint=validation_fingerprint,
        ).id  # fmt: skip

    def register(self, name: str, folder: Path, *, reuse: Reuse | None = None, **values: Any) -> RegisteredModel:
        """Register a model of checked values, unless ``reuse`` says of one that it is the same, and has these files."""
        folder, name = folder.absolute(), safe_name(name)
        try:
            files = hashed(folder)
            known = {
                **values, "name": name, "path": str(folder), "host": socket.gethostname(),
                "output_dir": str(self.output_dir), "files": files, "sha256": digest(files),
                "size": sum(it["size"] for it in files.values()),
            }  # fmt: skip
            with self.locked():
                same = [it for it in self.models() if reuse(it, files)] if reuse else []
                return same[-1] if same else self._add(name, known)
        except OSError as error:
            raise EnvironmentProblem(f"The model in {folder} cannot be registered: {error}") from error

    def _add(self, name: str, known: Mapping[str, Any]) -> RegisteredModel:
        version = 1 + max(self._taken(name), default=0)
        while True:
            model = RegisteredModel(id=model_id(name, version), version=version, **known)
            if self.shared.insert(model, lambda model=model: write_model(model, self.folder)):  # type: ignore[misc]
                return model
            version += 1  # another machine was faster

    def _taken(self, name: str) -> Iterator[int]:
        """Yield the versions that a name ever had, as far as anybody remembers; none is given twice."""
        mentioned = [event.model_id for event in self.history() if event.model_id]
        for identity in [*(path.stem for path in self.folder.glob("*.json")), *mentioned]:
            parts = parts_of(identity)
            # Some file systems take names that differ only in their case for one.
            if parts and parts[0].casefold() == name.casefold():
                yield parts[1]
        yield from self.shared.versions(name)

    def models(self) -> list[RegisteredModel]:
        """Return every registered model, oldest first; a file that cannot be read is warned about once."""
        own, notes = read_models(self.folder)
        for note in notes:
            self._say(note)
        others = self.shared.models_elsewhere({model.id for model in own})
        return sorted([*own, *others], key=lambda model: (model.created, model.name, model.version))

    def _say(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            logger.warning(note)

    def aliases(self) -> dict[str, str]:
        """Return the id of the model that each alias means."""
        return aliases.meanings(self.history())

    def history(self, alias: str | None = None) -> list[AliasEvent]:
        """Return the changes of an alias, or of all of them, oldest first."""
        try:
            own = aliases.read_events(self.folder)
        except OSError as error:
            self._say(f"the aliases of {self.folder} cannot be read: {error.strerror}")
            own = []
        events = aliases.joined(own, self.shared.events())
        return [event for event in events if alias is None or event.alias == alias]

    def resolve(self, name: str) -> RegisteredModel:
        """Return the model that a name means: an alias, ``NAME`` (the newest version), ``NAME@3`` or ``NAME-v3``.

        ``models:`` may stand in front. An alias wins over a model's name.

        Raises:
            UsageError: nothing fits; the nearest name is suggested.
        """
        return resolve(name, self.models(), self.aliases(), self.folder)

    def promote(self, model: str, alias: str = "champion", note: str = "") -> str | None:
        """Give an alias to a model, and return the id of the one that it meant before; None where it meant none.

        An alias that means the model already is left as it is. The files are not looked at.

        Raises:
            UsageError: there is no such model, or the alias is the name of a model or cannot be one.
            EnvironmentProblem: the change cannot be written.
        """
        check_alias(alias)
        with self.locked():
            models = self.models()
            if any(safe_name(alias) == it.name for it in models):
                raise UsageError(f"'{alias}' cannot be an alias: it is the name of a model", "Choose another.")
            target = resolve(model, models, self.aliases(), self.folder)
            before = self.aliases().get(alias)
            if before != target.id:
                self.add_event(alias, target.id, note)
            return before

    def demote(self, alias: str) -> str:
        """Take an alias away, and return the id of the model that it meant; its history stays.

        Raises:
            UsageError: there is no such alias.
            EnvironmentProblem: the change cannot be written.
        """
        with self.locked():
            known = self.aliases()
            if alias not in known:
                raise UsageError(f"There is no alias '{alias}'", f"There are: {', '.join(known) or 'none'}")
            self.add_event(alias, None, "")
            return known[alias]

    def add_event(self, alias: str, identity: str | None, note: str) -> None:
        """Append a change of an alias; only while the registry is locked."""
        event = aliases.new_event(alias, identity, masked(note), self.history(alias))
        aliases.append_event(self.folder, event)
        self.shared.put_event(event)

    def get_best_models(
        self, metric: str = "rouge_combined_f1", limit: int = 5, signature: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the models with the best values of a metric, as ``get_model_info`` does, the best first.

        Only scores of one signature on the same rows are compared. Models without the metric, or with NaN, are left
        out, which is warned about. Of equals the older comes first. See ``metric_direction`` for what is better.

        Args:
            signature: which scores are compared, where there are several kinds: a signature, a part of one, or the
                eight characters that the error gives.

        Raises:
            UsageError: the scores are of several kinds, no model has the metric, or it has no known better and worse.
        """
        ranked = ranking.rank(self.models(), metric, signature)
        for line in ranked.left_out:
            logger.warning(line)
        return self.infos(ranked.models[: max(0, limit)])

    def search_models(
        self,
        architecture: str | None = None,
        min_performance: Mapping[str, float] | None = None,
        name: str | None = None,
        alias: str | None = None,
        experiment_id: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return the models that fit every condition given, as ``get_model_info`` does, oldest first.

        ``min_performance`` has least values of metrics; a model without one, or with NaN, does not fit.
        """
        meant = None if alias is None else self.aliases().get(alias, "")
        return self.infos(
            [
                model
                for model in self.models()
                if (architecture is None or model.architecture == architecture)
                and (name is None or model.name == safe_name(name))
                and (meant is None or model.id == meant)
                and (experiment_id is None or model.experiment_id == experiment_id)
                and all(
                    model.performance.get(it, float("nan")) >= least for it, least in (min_performance or {}).items()
                )
            ]
        )

    def get_model_info(self, model_id: str) -> dict[str, Any]:
        """Return everything about a model, by its id or another of its names.

        Beside the fields of ``RegisteredModel`` there are ``model_id``, ``aliases``, ``exists``, ``files_state``
        (there, changed, gone or elsewhere), ``files_words`` and ``path``, where its folder is now, or was.

        Raises:
            UsageError: there is no such model.
        """
        return self.infos([self.resolve(model_id)])[0]

    def infos(self, models: Sequence[RegisteredModel]) -> list[dict[str, Any]]:
        """Return everything about models, as ``get_model_info`` does."""
        known = self.aliases()
        found = []
        for model in models:
            files = look_at(model, self.output_dir)
            names = [alias for alias, identity in known.items() if identity == model.id]
            found.append(
                {
                    "model_id": model.id, **vars(model), "path": str(files.folder or model.path), "aliases": names,
                    "exists": files.folder is not None, "files_state": files.state, "files_words": files.words,
                }
            )  # fmt: skip
        return found

    def compare_models(self, model_ids: Sequence[str]) -> dict[str, list[float]]:
        """Return each metric's values in the order of the models; NaN where one lacks it.

        Scores that were computed in different ways, or on different rows, are warned about.

        Raises:
            UsageError: there is no such model.
        """
        models = [self.resolve(identity) for identity in model_ids]
        table = ranking.side_by_side(models)
        if other := [name for name in table if len({ranking.scale_of(model, name) for model in models}) > 1]:
            logger.warning("%s of %s do not compare: other scales", ", ".join(other), ", ".join(model_ids))
        return table

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the registry's folder against other processes that write while the block runs.

        Raises:
            EnvironmentProblem: the folder cannot be written, or another process holds it for long.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                yield
        except OSError as error:  # a timeout is one as well
            raise EnvironmentProblem(f"{self.folder} cannot be written: {error}") from error
