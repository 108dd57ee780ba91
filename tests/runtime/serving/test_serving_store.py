"""What is kept, for how long, and beyond the process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hyperstyle_rt.errors import HyperStyleError
from hyperstyle_rt.files import write_atomically
from hyperstyle_rt.serving.jobs import Inverted
from hyperstyle_rt.serving.settings import Keeping
from hyperstyle_rt.serving.store import DONE, Kept, Store

RESULT = Inverted(b"file", b"picture", b"crop", {"method": "hyperstyle", "iterations": 5})


def finished(store: Store) -> Kept:
    kept = store.add()
    store.finish(kept, RESULT)
    kept.state = DONE
    return kept


def test_the_oldest_that_has_ended_goes_first() -> None:
    store = Store(Keeping(most=2))
    working, old = store.add(), finished(store)
    new = finished(store)
    assert store.get(working.id) is working
    assert store.get(old.id) is None
    assert store.get(new.id) is new


def test_what_nobody_asks_for_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("hyperstyle_rt.serving.store.time.monotonic", lambda: now)
    store = Store(Keeping(seconds=10))
    asked_for, forgotten = finished(store), finished(store)
    now = 8.0
    assert store.get(asked_for.id)
    now = 11.0
    assert store.get(asked_for.id)
    assert store.get(forgotten.id) is None


def test_the_time_of_what_took_long_begins_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("hyperstyle_rt.serving.store.time.monotonic", lambda: now)
    store = Store(Keeping(seconds=10))
    kept = store.add()
    now = 60.0
    store.finish(kept, RESULT)
    kept.state = DONE
    now = 69.0
    assert store.get(kept.id) is kept


def test_to_forget_gives_the_job_up() -> None:
    store = Store(Keeping())
    kept, given_up = store.add(), []
    kept.cancel = lambda: given_up.append(True)
    assert store.remove(kept.id)
    assert given_up
    assert not store.remove(kept.id)


def test_a_directory_keeps_them_beyond_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    store = Store(Keeping(directory=folder))
    first, second = finished(store), finished(store)
    assert folder.stat().st_mode & 0o077 == 0, "nobody else reads people's faces"
    again = Store(Keeping(directory=folder))
    kept = again.get(first.id)
    assert kept is not None
    assert (kept.state, kept.result) == (DONE, RESULT)
    again.remove(first.id)
    assert sorted({path.name.split(".")[0] for path in folder.iterdir()}) == [second.id]


def test_what_is_forgotten_while_it_is_written_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(Keeping(directory=tmp_path))
    kept = store.add()

    def forget_and_write(path: Path, *rest: Any) -> None:
        store.remove(kept.id)
        write_atomically(path, *rest)

    monkeypatch.setattr("hyperstyle_rt.serving.store.write_atomically", forget_and_write)
    store.finish(kept, RESULT)
    assert list(tmp_path.iterdir()) == []


def test_what_is_damaged_is_passed_over(tmp_path: Path) -> None:
    store = Store(Keeping(directory=tmp_path))
    whole, cut, odd = (finished(store).id for _ in range(3))
    (tmp_path / f"{cut}.json").write_text("{")
    (tmp_path / f"{odd}.json").write_text(json.dumps({"created": "then", "facts": []}))
    (tmp_path / "notes.json").write_text("{}")
    again = Store(Keeping(directory=tmp_path))
    assert [again.get(id) is not None for id in (whole, cut, odd)] == [True, False, False]


def test_a_place_that_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HyperStyleError, match="--store"):
        Store(Keeping(directory=tmp_path / "file"))
