"""Rolling back on a small serving table: what is served, what readers of the old version see, what is refused."""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.tiny import CONFIG
from jobs.cli import main
from jobs.config import load_config
from jobs.evaluate_lists import publications, served_before
from jobs.lake import Commit, Lake
from jobs.nightly import choose_date
from jobs.publish import served_commit, served_date
from jobs.stage import Night
from schemas.errors import EXIT_INPUT, EXIT_OK
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS

FIRST = date(2026, 1, 6)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose sources nobody reads."""
    file = tmp_path / "night.toml"
    file.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    return file


@pytest.fixture
def lake(spark: SparkSession, config: Path) -> Lake:
    return Lake(spark, load_config(str(config)).lake.root)


def publish(lake: Lake, config: Path, *nights: int) -> None:
    """One publication a night of January; its only list holds the item `<night>-<how often>`."""
    loaded = load_config(str(config))
    for nth, day in enumerate(nights):
        night = Night(lake, loaded, FIRST.replace(day=day), f"run-{day}-{nth}")
        row = ("u", 0, [(1, f"{day}-{nights[: nth + 1].count(day)}", 0.5)], "model", f"m{day}", night.run_id)
        made_from = {"model_digest": f"m{day}", "events": day, "figures": {"lists": 1.0}}
        rows = lake.spark.createDataFrame([row], SERVING_RECOMMENDATIONS.struct)
        lake.overwrite(SERVING_RECOMMENDATIONS, rows, night.stamp("publish", **made_from))


def served(lake: Lake) -> tuple[str, date | None]:
    """The item that is served, and what the log says of which night it is."""
    (row,) = lake.read(SERVING_RECOMMENDATIONS).collect()
    return row["items"][0]["item_id"], served_date(newest(lake))


def newest(lake: Lake) -> Commit:
    commit = served_commit(lake)
    assert commit is not None
    return commit


def rollback(config: Path, *words: str) -> int:
    return main(["rollback", "--config", str(config), *words])


def test_the_night_before_is_served_again_and_the_one_after_it_can_be_made_again(lake: Lake, config: Path) -> None:
    publish(lake, config, 6, 7, 7, 8)
    before = newest(lake)
    reader = lake.read(SERVING_RECOMMENDATIONS)  # pinned, not read yet
    assert rollback(config) == EXIT_OK
    assert served(lake) == ("7-2", date(2026, 1, 7))
    assert [row["items"][0]["item_id"] for row in reader.collect()] == ["8-1"]
    commit = newest(lake)
    assert commit.stamp["run_id"] not in {f"run-{day}-{n}" for day in (6, 7, 8) for n in range(4)}
    expected: Mapping[str, object] = {
        "model_digest": "m7", "events": 7, "figures": {"lists": 1.0},
        "version_before": before.version, "restored": before.version - 1,
    }  # fmt: skip
    assert (commit.stamp["stage"], commit.inputs) == ("rollback", expected)
    assert choose_date(lake, load_config(str(config)).night, "next") == (date(2026, 1, 8), "")
    publish(lake, config, 8)
    assert served(lake)[0] == "8-1"
    (row,) = lake.read(RUNS).collect()
    assert (row["stage"], row["logical_date"], row["model_digest"]) == ("rollback", date(2026, 1, 7), "m7")
    assert [(table["name"], table["version"]) for table in row["outputs"]] == [
        (SERVING_RECOMMENDATIONS.name, commit.version)
    ]


def test_rolling_back_again_goes_further_and_a_night_can_be_named(lake: Lake, config: Path) -> None:
    publish(lake, config, 5, 6, 7, 8)
    first = newest(lake).version - 3
    for expected in ("7-1", "6-1"):
        assert rollback(config) == EXIT_OK
        assert served(lake)[0] == expected
    publish(lake, config, 9)
    assert rollback(config, "--to", "2026-01-05") == EXIT_OK
    assert (served(lake), newest(lake).inputs["restored"]) == (("5-1", FIRST - timedelta(days=1)), first)


def test_a_rolled_back_night_is_judged_as_the_one_it_brought_back(lake: Lake, config: Path) -> None:
    publish(lake, config, 6, 7, 8)
    original = newest(lake).version - 1
    assert rollback(config) == EXIT_OK
    for night in (date(2026, 1, 8), date(2026, 1, 9)):  # the night that was rolled back, and the one after it
        judged = served_before(publications(lake, night), night)
        assert judged is not None
        assert (judged.version, judged.inputs["restored"]) == (newest(lake).version, original)


@pytest.mark.parametrize(
    ("nights", "words", "expected"),
    [
        ((), (), "expected a served night, found none"),
        ((6,), (), "expected a publication of a night before 2026-01-06 (served), found none"),
        ((5, 7), ("--to", "2026-01-06"), "expected a publication of the night of 2026-01-06, found none"),
        ((6, 7), ("--to", "2026-01-07"), "--to 2026-01-07: expected a night before 2026-01-07 (served)"),
    ],
)
def test_nothing_to_roll_back_to_is_said(
    nights: tuple[int, ...], words: tuple[str, ...], expected: str, lake: Lake, config: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    publish(lake, config, *nights)
    commits = list(lake.commits(SERVING_RECOMMENDATIONS))
    assert rollback(config, *words) == EXIT_INPUT
    assert expected in capsys.readouterr().err
    assert list(lake.commits(SERVING_RECOMMENDATIONS)) == commits


def test_lists_whose_files_vacuum_took_are_not_served(
    lake: Lake, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(lake, config, 6, 7)
    commits = list(lake.commits(SERVING_RECOMMENDATIONS))
    old = lake.read(SERVING_RECOMMENDATIONS, commits[1].version).inputFiles()
    for file in old:
        Path(file.removeprefix("file:")).unlink()
    assert rollback(config) == EXIT_INPUT
    said = capsys.readouterr().err
    assert f"expected version {commits[1].version}, found 1 of its 1 files gone (VACUUM), the first: {old[0]}" in said
    assert list(lake.commits(SERVING_RECOMMENDATIONS)) == commits
    assert served(lake)[0] == "7-1"


def test_lists_whose_log_is_gone_are_not_served(
    lake: Lake, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(lake, config, *range(1, 13))  # Delta has written a checkpoint of version 10
    log = Path(lake.root, SERVING_RECOMMENDATIONS.name, "_delta_log")
    (log / f"{0:020d}.json").unlink()
    assert rollback(config, "--to", "2026-01-03") == EXIT_INPUT
    assert "expected version 3, found that its log is gone" in capsys.readouterr().err
    assert served(lake)[0] == "12-1"
