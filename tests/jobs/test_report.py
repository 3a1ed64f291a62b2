"""The report of a small night: what it says, and what must never be in it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.accuracy import Evaluation
from jobs.config import load_config
from jobs.lake import Lake
from jobs.report import accuracy, default_path, main, outcome, stage_lines, write_report
from jobs.report_data import newest_run
from jobs.stage import Night, StageRecord, StageReport, record_stages
from schemas.errors import ConfigError, InputError
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY

DAY = date(2026, 3, 10)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
CONFIG = """
[lake]
root = "{root}"
[events]
format = "jsonl"
path = "none"
columns = {{ user_id = "u", item_id = "i", event_ts = "t" }}
[items]
format = "jsonl"
path = "none"
columns = {{ item_id = "i" }}
[score]
k = 2
"""


def record(stage: str, second: int = 0, seconds: float = 1.0, **report: object) -> StageRecord:
    """A stage that started so many seconds into the run."""
    started = datetime(2026, 3, 11, 2, 0, second, tzinfo=UTC)
    return StageRecord(stage, StageReport(**report), {"events": 0}, {}, started, seconds)  # type: ignore[arg-type]


PUBLISHED = record("publish", 3, rows_in=2, rows_out=2, metrics={"changed": 1.0, "users": 3.0, "covered": 2.0})
STAGES = [
    record("plan"),
    record(
        "ingest_events", 1, 2.0, rows_in=7, rows_out=4, dropped={"duplicate": 2, "item_id: <missing>": 1, "none": 0}
    ),
    PUBLISHED,
]


def judged(users: int, gain: float, night: date = DAY) -> Evaluation:
    """A night on which every user's model list was better than popularity by about `gain`."""
    figures = {"users": float(users), "served_version": float(night.day), "until_epoch": 1.0}
    for measure in ("ndcg", "hit"):
        for who, value in (("model", 0.3 + gain), ("popularity", 0.3), ("difference", gain)):
            figures |= {f"{who}_{measure}_sum": users * value, f"{who}_{measure}_sq": users * (value * value + 0.01)}
    return Evaluation(night, figures)


@pytest.fixture(scope="module")
def night(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A lake with two publications; a title that is no good HTML, and user ids that must not be told."""
    root = tmp_path_factory.mktemp("report") / "lake"
    config_file = root.parent / "night.toml"
    config_file.write_text(CONFIG.format(root=root))
    night = Night(Lake(spark, str(root)), load_config(str(config_file)), DAY, "run-of-the-test")
    items = [(i, BEGINNING, None, f"<b>{i}</b> & {i}", "{}", "{}", True, "r") for i in ("a", "b", "c")]
    night.lake.append(ITEMS, spark.createDataFrame(items, ITEMS.struct), night.stamp("ingest_events"))
    event = ("e1", "secret-1", "a", "liked", NOON, 1, None, None, "f", "r")
    night.lake.append(EVENTS, spark.createDataFrame([event], EVENTS.struct), night.stamp("ingest_events"))
    history = ("secret-1", 0, ["a"], ["{}"], ["liked"], [NOON], "digest", "r")
    night.lake.append(
        USER_HISTORY, spark.createDataFrame([history], USER_HISTORY.struct), night.stamp("build_histories")
    )
    for back, first in ((1, "a"), (0, "b")):
        lists = [
            ("secret-1", 0, [(1, first, 0.5), (2, "c", 0.25)], "model", "m", "r"),
            ("secret-2", 0, [(1, "a", 9.0)], "popularity", "m", "r"),
        ]
        served = spark.createDataFrame(lists, SERVING_RECOMMENDATIONS.struct)
        stamp = replace(night, logical_date=DAY - timedelta(days=back), run_id=f"run-{back}").stamp("publish")
        night.lake.overwrite(SERVING_RECOMMENDATIONS, served, stamp)
    return night


@pytest.fixture(scope="module")
def page(night: Night, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of that night."""
    path = tmp_path_factory.mktemp("page") / "deep" / "night.html"
    samples, text = write_report(night, STAGES, str(path)), path.read_text("utf-8")
    assert [sample.label for sample in samples] == ["user A"]
    return text


class Links(HTMLParser):
    """Collects everything a browser would fetch, and counts open elements."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = (value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "poster"))
        self.fetched += [value for value in named if not value.startswith("#")]


def test_the_page_fetches_nothing(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.fetched == []
    assert links.tags.isdisjoint({"script", "link", "iframe", "img"})
    assert "http" not in page
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page


def test_no_user_id_is_in_the_page(page: str) -> None:
    assert "secret" not in page
    assert "User A" in page


def test_titles_are_shown_escaped(page: str) -> None:
    assert "&lt;b&gt;b&lt;/b&gt; &amp; b" in page
    assert "<b>b</b>" not in page


def test_the_headline_and_the_lists_are_told(page: str) -> None:
    assert "Night of 10 March 2026" in page
    assert 'class="status published"' in page
    words = " ".join(page.split())
    assert (
        "2 users have a list of up to 2 items: 1 from the model, 1 without a history from the popularity list." in words
    )
    assert "67 % of 3 valid users have one" in words
    # secret-1 kept c of two items, secret-2 its one of two places
    assert "<b>50\N{NARROW NO-BREAK SPACE}%</b>" in page
    assert page.count("<figure") == 4
    assert page.count("<svg") == 4 + 2  # pictures and two stages


def test_stages_are_told_with_what_they_dropped_and_the_plan_is_not_one(page: str) -> None:
    assert "<span>2 duplicate</span><span>1 item_id: &lt;missing&gt;</span>" in page
    assert ">plan<" not in page


def test_without_judged_lists_the_page_says_so(page: str) -> None:
    assert "Nothing to judge yet" in page


def test_under_a_hundred_users_no_figure_is_shown() -> None:
    found = accuracy([judged(60, 0.1), judged(39, 0.1, DAY - timedelta(days=1))])
    assert found is not None
    assert (found.nights, found.ndcg.enough, found.pictures) == (2, False, {})


@pytest.mark.parametrize(("gain", "words"), [(0.1, "are better"), (-0.1, "are worse"), (0.001, "cannot be told apart")])
def test_the_verdict_is_what_the_interval_of_the_difference_allows(gain: float, words: str) -> None:
    found = accuracy([judged(200, gain)])
    assert found is not None
    assert words in found.verdict
    assert set(found.pictures) == {"intervals", "trend"}


def test_judged_nights_are_shown_with_their_interval(night: Night, tmp_path: Path) -> None:
    figures = judged(120, 0.1).figures
    path = tmp_path / "judged.html"
    write_report(night, [*STAGES, record("evaluate_lists", metrics=figures)], str(path))
    words = " ".join(path.read_text("utf-8").split())
    assert "120 judged users over 1 night," in words
    assert "0.4000 <small>± 0.0180</small>" in words
    few = record("evaluate_lists", metrics=judged(99, 0.1).figures)
    write_report(night, [*STAGES, few], str(path))
    assert "<strong>Too few.</strong> 99 users" in " ".join(path.read_text("utf-8").split())


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([PUBLISHED], "published"),
        ([record("publish", metrics={"changed": 0.0})], "unchanged"),
        ([record("publish", metrics={"refused": 1.0})], "refused"),
        ([record("ingest_events")], "unfinished"),
    ],
)
def test_the_outcome_is_read_from_the_publication(stages: Sequence[StageRecord], expected: str) -> None:
    assert outcome(stages) == expected


def test_a_night_that_served_nothing_still_has_a_report(spark: SparkSession, night: Night, tmp_path: Path) -> None:
    empty = replace(night, lake=Lake(spark, str(tmp_path / "empty")))
    path = tmp_path / "empty.html"
    assert write_report(empty, [record("ingest_events")], str(path)) == []
    text = path.read_text("utf-8")
    assert "unfinished" in text
    assert "Lists to look at" not in text


def test_bars_lie_where_their_stage_lies_in_the_run() -> None:
    first, second = stage_lines([record("b", 6, 2.0), record("a", 0, 4.0)])
    assert (first.name, first.start, first.width) == ("a", 0.0, 50.0)
    assert (second.name, second.start, second.width) == ("b", 75.0, 25.0)
    assert stage_lines([]) == []


def test_the_command_writes_the_newest_run_of_the_date(night: Night, tmp_path: Path) -> None:
    config = str(Path(night.lake.root).parent / "night.toml")
    with pytest.raises(InputError, match="expected a run of 2026-01-01"):
        record_stages(night, STAGES, "stages")
        newest_run(night.lake, date(2026, 1, 1))
    later = replace(night, run_id="a-single-job")  # newer, but it published nothing
    record_stages(later, [record("ingest_events", 30)], "ingest_events")
    into = tmp_path / "again.html"
    assert main(["--config", config, "--date", DAY.isoformat(), "--into", str(into)]) == 0
    text = into.read_text("utf-8")
    assert "run-of-the-test" in text
    assert "2 duplicate" in text


def test_a_lake_without_a_folder_needs_a_place_for_the_report(night: Night) -> None:
    assert default_path(night, "--into").endswith("/reports/2026-03-10.html")
    catalog = Lake(night.lake.spark, "catalog.schema", "somewhere/staging")
    with pytest.raises(ConfigError, match="--into"):
        default_path(replace(night, lake=catalog), "--into")
