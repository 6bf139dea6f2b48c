"""Several processes and output folders that register models in one database."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dlgsum.tracking.registry import ModelRegistry
from dlgsum.tracking.registry.reindex import reindex
from tests.tracking.postgres import postgres_url as _postgres_url

postgres_url = _postgres_url


def _register(output_dir: Path, url: str | None, count: int) -> list[str]:
    folder = output_dir / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(str(output_dir).encode())
    registry = ModelRegistry(output_dir, url)
    try:
        return [
            registry.register_model("kobart", "bart", "x", {}, {"bleu": 1.0}, {}, folder, experiment_id=str(number))
            for number in range(count)
        ]
    finally:
        registry.shared.close()


def _all_at_once(folders: list[Path], url: str | None, count: int) -> list[str]:
    with multiprocessing.get_context("fork").Pool(len(folders)) as pool:
        return [it for ids in pool.starmap(_register, [(folder, url, count) for folder in folders]) for it in ids]


def test_processes_of_one_folder_never_share_a_version(tmp_path: Path) -> None:
    ids = _all_at_once([tmp_path] * 4, None, 3)
    assert sorted(ids) == sorted(f"kobart-v{number}" for number in range(1, 13))
    assert {it.id for it in ModelRegistry(tmp_path).models()} == set(ids)


def test_folders_that_share_postgresql(tmp_path: Path, postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ids = _all_at_once([one, two], postgres_url, 4)
    assert sorted(ids) == sorted(f"kobart-v{number}" for number in range(1, 9))
    first, second = ModelRegistry(one, postgres_url), ModelRegistry(two, postgres_url)
    assert [it.id for it in first.models()] == [it.id for it in second.models()]
    of_second = next(iter(second.folder.glob("*.json"))).stem
    assert first.promote(of_second) is None
    assert second.aliases() == {"champion": of_second}
    assert first.get_model_info("champion")["path"] == str(two / "model")

    # What was registered without the database gets out of the way when it comes back.
    apart = ModelRegistry(tmp_path / "three")
    assert _register(apart.output_dir, None, 1) == ["kobart-v1"]
    apart.promote("kobart", "mine")
    joined = ModelRegistry(apart.output_dir, postgres_url)
    done = reindex(joined)
    assert (done.models, len(done.notes)) == (["kobart-v9"], 1)
    assert joined.aliases() == {"champion": of_second, "mine": "kobart-v9"}
    assert reindex(joined).notes == []
    assert len(joined.models()) == 9
    assert not caplog.text
    for registry in (first, second, joined):
        registry.shared.close()
