import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import staleness
from benchmarks.interactions import Interactions, from_file
from benchmarks.staleness import DAY, NIGHTS, Ranker, judged_nights, main, training_end
from lime_model.config import TrainConfig
from lime_model.validation import ABSENT


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    found = TrainConfig(steps=4, validate_every=2, blocks_per_step=4, cuts_per_block=4)
    monkeypatch.setattr(staleness, "QUICK", found)


def file_of(folder: Path, days: int = 60) -> Path:
    """Ten users who take an item every third day, one more item each; new ones come to the catalogue all the time."""
    rows = []
    for user in range(10):
        for day in range(user % 3, days, 3):
            rows.append(f"u{user} i{day // 2 + user % 4} {86_400 * day + user}")
    (folder / "lines.txt").write_text("\n".join(rows))
    return folder / "lines.txt"


@pytest.fixture
def data(tmp_path: Path) -> Interactions:
    return from_file(file_of(tmp_path))


def test_a_night_is_judged_by_the_first_new_item_and_what_was_before(data: Interactions) -> None:
    until = training_end(data)
    judged = judged_nights(data, until)
    assert judged
    for at in judged:
        assert all(event.ts < at.night for event in at.before)
        assert at.target not in {event.item_id for event in at.before}
        assert (at.night - until) % DAY == 0
        assert at.night - until >= max(NIGHTS) * DAY


def test_a_cache_that_is_older_than_an_item_cannot_list_it(data: Interactions) -> None:
    ranker = Ranker(data, staleness.QUICK, None)
    fresh, old = ranker.ranks(0, 0), ranker.ranks(0, 14)
    first = ranker.first[[ranker.place[at.target] for at in ranker.judged]]
    nights = torch.tensor([at.night for at in ranker.judged])
    assert torch.equal(fresh == ABSENT, first >= nights)
    assert torch.equal(old == ABSENT, first >= nights - 14 * DAY)
    assert int((old == ABSENT).sum()) > int((fresh == ABSENT).sum())


def test_links_of_any_age_are_those_of_the_history_at_that_time(data: Interactions) -> None:
    ranker = Ranker(data, staleness.QUICK, None)
    nobody = ranker.ranks(1000, 0)  # older than all events
    assert not torch.equal(nobody, ranker.ranks(0, 0))
    ranker.judged = [replace(at, before=()) for at in ranker.judged]
    without_seen = ranker.ranks(0, 0)
    assert bool((without_seen >= nobody).all())  # the same links; fewer items are left out, so no rank is better


def test_a_quick_run_says_what_is_lost_and_draws_it(tmp_path: Path) -> None:
    out, picture = tmp_path / "f.json", tmp_path / "staleness.svg"
    command = ["--quick", "--data", str(file_of(tmp_path)), "--json", str(out), "--picture", str(picture)]
    assert main(command) == 0
    figures = {figure["claim"]: figure for figure in json.loads(out.read_text())["figures"]}
    for what in ("links", "cache", "both"):
        assert figures[f"{what} 0 nights old"]["value"] == 0.0
        low, high = figures[f"{what} 14 nights old"]["spread"]["interval"]
        assert low <= figures[f"{what} 14 nights old"]["value"] <= high
    assert ">nights old<" in picture.read_text()


@pytest.mark.parametrize(
    ("lines", "message"),
    [("u a\nu b\nu c\n", "expected lines `user item timestamp`"), ("u a 1\nu b 2\nu c 3\n", "found none")],
)
def test_data_that_cannot_be_stale_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, message: str
) -> None:
    (tmp_path / "d.txt").write_text(lines)
    assert main(["--quick", "--data", str(tmp_path / "d.txt")]) == 5
    assert message in capsys.readouterr().out
