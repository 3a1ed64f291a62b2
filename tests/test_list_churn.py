"""Lists merged from the last ones, through Spark: after any change they are those that a full scoring makes."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.scored_lake import DAY, SEEN, make_lake, night_of
from jobs import score_candidates
from jobs.config import Feature, UserSource
from jobs.rule_config import Rule
from jobs.stage import Night, StageReport, run_stage
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.contract import TableContract
from schemas.digest import table_digest
from schemas.errors import GateError
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

PEOPLE, THINGS, K, RESERVE = 120, 600, 10, 5


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lake whose lists were made in full for DAY."""
    root = str(tmp_path_factory.mktemp("churn") / "lake")
    make_lake(root, "mlp", PEOPLE, THINGS)
    score_candidates.run(on_day(root, 0))
    return root


@pytest.fixture
def root(first: str, tmp_path: Path) -> str:
    """A copy of it."""
    return str(shutil.copytree(first, tmp_path / "lake"))


def on_day(root: str, day: int, **score: object) -> Night:
    """The night so many days after DAY; every list with a reserve, every merged list audited if so asked."""
    night = night_of(root, "mlp", K)
    chosen = replace(night.config.score, **{"reserve": RESERVE, "audited_users": 5, **score})  # type: ignore[arg-type]
    return replace(night.of(DAY + timedelta(days=day)), config=replace(night.config, score=chosen))


def rewrite(night: Night, table: TableContract, change: Callable[[DataFrame], DataFrame]) -> None:
    """Another version of a table, as one commit."""
    night.lake.overwrite(table, change(night.lake.read(table)), night.stamp(f"test/{table.name}"))


def where(condition: Column, **values: Column) -> Callable[[DataFrame], DataFrame]:
    """Other values in the rows that the condition holds for."""

    def change(rows: DataFrame) -> DataFrame:
        return rows.withColumns({name: F.when(condition, new).otherwise(F.col(name)) for name, new in values.items()})

    return change


def among(key: str, share: int) -> Column:
    """One in so many."""
    return F.pmod(F.xxhash64(key, F.lit(7)), F.lit(share)) == 0


def merged_and_full(root: str, day: int, **score: object) -> StageReport:
    """The night's lists as they are made from the last ones; compared with lists made in full."""
    night = on_day(root, day, **score)
    report = score_candidates.run(night)
    found = table_digest(night.lake.read(RECOMMENDATIONS), RECOMMENDATIONS)
    copy = on_day(root, day, **score)
    score_candidates.run(copy, in_full=True)
    assert found == table_digest(copy.lake.read(RECOMMENDATIONS), RECOMMENDATIONS)
    return report


def test_a_night_without_changes_makes_only_what_it_audits(root: str) -> None:
    night = on_day(root, 1)
    before = night.lake.last_commit(RECOMMENDATIONS)
    report = score_candidates.run(night)
    made = report.metrics
    assert (made["lists"], made["rescored_items"], made["lists_from_all"]) == (PEOPLE, 0, 0)
    assert 0 < made["merged_lists"] < PEOPLE / 4
    assert report.dropped == {"unchanged": PEOPLE - report.rows_out}
    after = night.lake.last_commit(RECOMMENDATIONS)
    assert before and after and after.stamp["logical_date"] == "2026-11-02"
    merged_and_full(root, 2, audited_users=0)


def test_three_nights_of_churn_equal_full_ones(root: str) -> None:
    """Items change, leave, come back, lose availability; users act, come and go: each night against a full one."""
    night = on_day(root, 1)
    turned = F.transform("link_weights", lambda x: F.lit(1.0).cast("float") - x)
    rewrite(night, CANDIDATE_WEIGHTS, where(among("item_id", 40), link_weights=turned))
    rewrite(night, CANDIDATE_WEIGHTS, lambda rows: rows.where("item_id NOT IN ('i00000011', 'i00000012')"))
    rewrite(night, ITEMS, lambda rows: rows.where("item_id NOT IN ('i00000011', 'i00000012')"))
    one = merged_and_full(root, 1)
    assert one.metrics["merged_lists"] > PEOPLE / 2 and one.metrics["rescored_items"] > 0

    night = on_day(root, 2)
    rewrite(night, ITEMS, where(among("item_id", 30), available=F.lit(False)))
    acted = among("user_id", 20)
    moved = F.transform("links", lambda x: x + F.lit(0.5).cast("float"))
    rewrite(night, USER_HISTORY, where(acted, history_digest=F.lit("new")))
    rewrite(night, LINK_EMBEDDINGS, where(acted, history_digest=F.lit("new"), links=moved))
    two = merged_and_full(root, 2)
    assert 0 < two.metrics["lists_from_all"] < PEOPLE / 2

    night = on_day(root, 3)
    rewrite(night, ITEMS, where(among("item_id", 60), available=F.lit(True)))
    rewrite(night, USER_SEEN, where(among("user_id", 15), seen=F.slice("seen", 1, SEEN - 5)))
    rewrite(night, USERS, lambda rows: rows.where(~among("user_id", 25)))
    three = merged_and_full(root, 3)
    assert three.metrics["lists"] < PEOPLE
    assert 0 < three.metrics["lists_from_all"] < PEOPLE / 2


def test_users_who_are_gone_lose_their_rows_and_the_others_keep_theirs(root: str) -> None:
    night = on_day(root, 1)
    rewrite(night, USERS, lambda rows: rows.where(~among("user_id", 25)))
    report = merged_and_full(root, 1)
    assert report.metrics["rescored_items"] == 0 and report.metrics["lists"] < PEOPLE


def test_items_whose_time_in_the_seen_window_is_over_come_back(root: str) -> None:
    night = on_day(root, 0, seen_days=2)
    now = F.lit("2026-10-31T12:00:00Z").cast("timestamp")
    stamped = F.transform("seen", lambda entry: entry.withField("last_ts", now))
    rewrite(night, USER_SEEN, where(among("user_id", 10), seen=stamped))
    score_candidates.run(night, in_full=True)
    assert merged_and_full(root, 1, seen_days=2).metrics["lists_from_all"] == 0
    listed = night.lake.read(RECOMMENDATIONS).select("user_id", F.explode("items.item_id").alias("item_id"))
    users = night.lake.read(USER_SEEN).where(among("user_id", 10))
    seen = users.select("user_id", F.explode("seen.item_id").alias("item_id"))
    assert not listed.join(seen, on=["user_id", "item_id"], how="left_semi").isEmpty()


def test_other_settings_make_all_lists_anew(root: str) -> None:
    assert score_candidates.run(on_day(root, 1, reserve=RESERVE + 1)).metrics["lists_from_all"] == PEOPLE


def test_a_changed_rule_makes_the_lists_of_those_whom_it_binds(root: str) -> None:
    night = on_day(root, 0)
    abroad = among("user_id", 8)
    rewrite(night, USERS, where(abroad, attributes=F.lit('{"country":"CH"}')))
    rewrite(night, ITEMS, where(among("item_id", 3), attributes=F.lit('{"region":["x"]}')))
    score_candidates.run(under(night), in_full=True)
    bound = night.lake.read(USERS).where(abroad).count()
    for rules in ((Rule("deny", "region", ("x",), "country", ("CH",)),), (Rule("deny", "region", ("y",)),)):
        night = under(on_day(root, 1), *rules)
        made = score_candidates.run(night).metrics
        assert made["lists_from_all"] == (bound if rules[0].user else PEOPLE)
        found = table_digest(night.lake.read(RECOMMENDATIONS), RECOMMENDATIONS)
        score_candidates.run(under(on_day(root, 1), *rules), in_full=True)
        assert found == table_digest(night.lake.read(RECOMMENDATIONS), RECOMMENDATIONS)


def under(night: Night, *rules: Rule) -> Night:
    """The night with these rules, and with the attributes that they read."""
    items = replace(night.config.items, attributes={"region": Feature("region")})
    users = UserSource("csv", "none", {"user_id": "u"}, {"country": "country"})
    score = replace(night.config.score, rules=rules)
    return replace(night, config=replace(night.config, items=items, users=users, score=score))


def test_an_older_night_and_lists_of_another_hand_are_made_anew(root: str) -> None:
    assert score_candidates.run(on_day(root, -1)).metrics["lists_from_all"] == PEOPLE
    night = on_day(root, 0)
    rewrite(night, RECOMMENDATIONS, lambda rows: rows.withColumn("run_id", F.lit("by hand")))
    assert score_candidates.run(night).metrics["lists_from_all"] == PEOPLE


def test_files_that_were_vacuumed_make_all_lists_anew(root: str) -> None:
    night = on_day(root, 1)
    old = list(Path(root, CANDIDATE_WEIGHTS.name).rglob("*.parquet"))
    rewrite(night, CANDIDATE_WEIGHTS, lambda rows: rows.withColumn("run_id", F.lit("again")))
    for file in old:
        file.unlink()
    assert score_candidates.run(night).metrics["lists_from_all"] == PEOPLE


def test_a_list_that_was_tampered_with_is_found_by_the_audit(root: str) -> None:
    night = on_day(root, 1, audited_users=PEOPLE)
    last = night.lake.last_commit(RECOMMENDATIONS)
    assert last is not None
    swapped = F.transform("items", lambda item: item.withField("score", item["score"] + F.lit(1.0).cast("float")))
    rows = where(F.col("user_id") == "u00000003", items=swapped)(night.lake.read(RECOMMENDATIONS))
    stamp = replace(night.of(DAY).stamp(score_candidates.STAGE), inputs=last.inputs)
    night.lake.reads.update({name: int(version) for name, version in last.reads.items()})
    night.lake.overwrite(RECOMMENDATIONS, rows, stamp)
    with pytest.raises(GateError, match="audit: expected merged lists that equal those made in full"):
        run_stage(night, score_candidates.STAGE, score_candidates.run)
