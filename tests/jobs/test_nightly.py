"""Which night is worked on, and when there is nothing to do: the served commit against what a rerun would read."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs import publish
from jobs.config import NightConfig
from jobs.lake import Commit, Lake
from jobs.nightly import choose_date
from jobs.publish import as_record, is_published
from jobs.stage import Night, require_ended, run_stage
from schemas.contract import TableContract
from schemas.errors import InputError

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
SERVED = date(2026, 1, 6)
MADE_FROM = {"events": 3, "items": 0, "users": 1, "model_digest": "m", "config_hash": "c"}


class FakeLake:
    """The newest commit of each table."""

    def __init__(self, served: date | None = SERVED, **versions: int) -> None:
        heads = {"events": 3, "items": 0, "users": 1, **versions}
        self.commits = {name: Commit(version, {}) for name, version in heads.items()}
        if served:
            stamp = {"stage": "publish", "logical_date": served.isoformat(), "inputs": MADE_FROM, "reads": {"users": 1}}
            self.commits["serving_recommendations"] = Commit(9, stamp)

    def last_commit(self, table: TableContract, *stages: str) -> Commit | None:
        return self.commits.get(table.name)

    def changed_since(self, table: TableContract, version: int) -> bool:
        return self.commits[table.name].version > version


def chosen(asked: str, served: date | None = SERVED, **config: date) -> tuple[date | None, str]:
    return choose_date(cast(Lake, FakeLake(served)), NightConfig(**config), asked)


def test_next_is_the_night_after_the_served_one_until_the_data_ends() -> None:
    assert chosen("next") == (SERVED + timedelta(days=1), "")
    assert chosen("next", served=None, first_date=SERVED) == (SERVED, "")
    assert chosen("next", served=None) == (YESTERDAY, "")
    assert chosen("next", last_date=SERVED) == (None, f"{SERVED} is the data's last day and it is served")
    assert chosen("next", served=YESTERDAY) == (None, f"the night of {TODAY} has not ended")


def test_a_date_that_has_ended_may_be_asked_for() -> None:
    assert chosen(str(SERVED)) == (SERVED, "")
    assert chosen(str(YESTERDAY)) == (YESTERDAY, "")


@pytest.mark.parametrize(
    ("asked", "config", "expected"),
    [
        (TODAY, {}, f"expected {YESTERDAY} (the last day that has ended) or earlier"),
        (date(2062, 1, 7), {}, f"expected {YESTERDAY} (the last day that has ended) or earlier"),
        (date(2026, 1, 11), {"last_date": date(2026, 1, 10)}, "expected 2026-01-10 (night.last_date) or earlier"),
        (date(2026, 1, 5), {}, "expected 2026-01-06 (served) or later; past nights are not made again"),
    ],
)
def test_a_date_that_cannot_be_a_night_is_refused(asked: date, config: dict[str, date], expected: str) -> None:
    with pytest.raises(InputError) as refused:
        chosen(str(asked), **config)
    assert str(refused.value) == f"--date {asked}: {expected}"


def test_a_single_stage_has_no_future_either() -> None:
    require_ended(YESTERDAY)
    with pytest.raises(InputError, match="the last day that has ended"):
        require_ended(TODAY)


def published(monkeypatch: pytest.MonkeyPatch, model: str = "m", config: str = "c", **versions: int) -> bool:
    """Whether the served date is published from what lies there now."""
    monkeypatch.setattr(publish, "current_package", lambda night: Path(model))
    lake, config_ = cast(Lake, FakeLake(**versions)), cast(Any, SimpleNamespace(hash=config))
    return is_published(Night(lake, config_, SERVED, "run"))


@pytest.mark.parametrize(
    "change",
    [{"events": 4}, {"items": 1}, {"users": 2}, {"model": "new"}, {"config": "new"}],
    ids=lambda change: next(iter(change)),
)
def test_a_served_night_is_made_again_when_anything_it_was_made_from_has_changed(
    change: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published(monkeypatch)
    assert not published(monkeypatch, **change)


def test_another_date_is_not_published() -> None:
    other = Night(cast(Lake, FakeLake()), cast(Any, SimpleNamespace(hash="c")), SERVED + timedelta(days=1), "run")
    assert not is_published(other)


def test_a_publication_is_recorded_from_its_commit_with_what_its_gates_saw() -> None:
    figures = {"lists": 43.0, "overlap": 0.5, "changed": 0.0}
    stamp = {"stage": "publish", "inputs": {**MADE_FROM, "figures": figures}, "reads": {"users": 1}}
    record = as_record(Commit(9, stamp))
    assert (record.stage, record.reads, record.writes) == ("publish", {"users": 1}, {"serving_recommendations": 9})
    assert (record.report.rows_in, record.report.rows_out, record.report.metrics) == (43, 0, figures)
    assert record.report.model_digest == "m"


def test_what_a_failing_stage_staged_is_removed() -> None:
    cleared: list[str] = []
    lake = cast(Lake, SimpleNamespace(reads={}, writes={}, clear_staging=cleared.append))

    def fail(night: Night) -> Any:
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        run_stage(Night(lake, cast(Any, None), SERVED, "run"), "stage", fail)
    assert cleared == ["run"]
