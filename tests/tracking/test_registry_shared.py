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


@pytest.mark.parametrize("later", ["one", "two"])
def test_the_newest_event_of_all_says_what_an_alias_means(tmp_path: Path, postgres_url: str, later: str) -> None:
    """``two`` registers and promotes without the database, and takes the version that ``one`` has in it."""
    one, apart = ModelRegistry(tmp_path / "one", postgres_url), ModelRegistry(tmp_path / "two")
    for registry, url in ((one, postgres_url), (apart, None)):
        assert _register(registry.output_dir, url, 1) == ["kobart-v1"]
    for registry in (apart, one) if later == "one" else (one, apart):
        registry.promote("kobart", note="good")
    times = [it.time for it in apart.history()]
    joined = ModelRegistry(apart.output_dir, postgres_url)
    done = reindex(joined)
    assert done.models == ["kobart-v2"]
    meant = {"one": "kobart-v1", "two": "kobart-v2"}[later]
    assert one.aliases() == joined.aliases() == {"champion": meant}
    assert [it.model_id for it in one.history()] == (
        ["kobart-v2", "kobart-v1"] if later == "one" else ["kobart-v1", "kobart-v2"]
    )  # nothing was written with the time of now, and no event of two's means the model of one
    assert [it.time for it in one.history() if it.model_id == "kobart-v2"] == times
    assert [note for note in done.notes if "champion" in note] == (
        ["champion meant kobart-v2 here; it means kobart-v1, as another folder said later"] if later == "one" else []
    )
    assert joined.resolve("champion").output_dir == str(tmp_path / later)
    assert reindex(joined).notes == []
    for registry in (one, apart, joined):
        registry.shared.close()


def test_an_event_that_is_shared_already_is_corrected(tmp_path: Path, postgres_url: str) -> None:
    one, two = ModelRegistry(tmp_path / "one", postgres_url), ModelRegistry(tmp_path / "two", postgres_url)
    _register(one.output_dir, postgres_url, 1)
    _register(two.output_dir, None, 1)
    two.promote("kobart", "mine")  # the database is back, and takes the event
    assert one.aliases() == {"mine": "kobart-v1"}
    reindex(two)
    assert one.aliases() == two.aliases() == {"mine": "kobart-v2"}
    assert [it.model_id for it in one.history()] == ["kobart-v2"]  # none that means the model of one
    for registry in (one, two):
        registry.shared.close()
