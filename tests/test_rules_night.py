"""One night under rules: lists of model and popularity keep them, and the short ones add up."""

import json
import re
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.tiny import write_platform
from jobs.cli import main
from jobs.config import load_config
from jobs.lake import Lake
from jobs.rule_config import Rule
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.errors import EXIT_OK
from schemas.items import ITEMS
from schemas.recommendations import RECOMMENDATIONS
from schemas.user_seen import USER_SEEN
from schemas.users import USERS
from tests.jobs.rule_reference import allowed, item_of

DECLARED = """
[score.denied]
user = "blocked"
separator = ","
[[score.rules]]
name = "adult-only"
kind = "minimum"
item = "least_age"
user = "age"
[[score.rules]]
kind = "match"
item = "regions"
user = "country"
"""
PUBLISH = "\n[publish]\nmin_full_lists = 0.5"  # so few items that rules leave some users less than K
ITEM_ATTRIBUTES = """
[items.attributes]
least_age = { column = "least", kind = "numeric" }
regions = { column = "region", separator = " " }

[users]"""


@pytest.fixture(scope="module")
def config(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny platform, its items with ages and regions, some users with a country or blocked items; a night."""
    file = write_platform(tmp_path_factory.mktemp("rules"))
    text = file.read_text().replace("\n[users]", ITEM_ATTRIBUTES).replace("\n[publish]", DECLARED + PUBLISH)
    file.write_text(text.replace('age = "age"\n', 'age = "age"\ncountry = "land"\nblocked = "blocked"\n'))
    write_attributes(file.parent, 30)
    users = (file.parent / "users.tsv").read_text().splitlines()
    countries = ["", "x", "y", "z"]
    rows = [f"{line}\t{countries[n % 4]}\t{'c0i7,c1i2' if n % 3 else ''}" for n, line in enumerate(users[1:])]
    (file.parent / "users.tsv").write_text("\n".join([f"{users[0]}\tland\tblocked", *rows]) + "\n")
    assert main(["nightly", "--config", str(file), "--date", "2026-01-08"]) == EXIT_OK
    return file


def write_attributes(folder: Path, age: int) -> None:
    """Two columns that only rules read: every third item is for people of `age`, most items have regions."""
    lines = [line.split("\t")[:4] for line in (folder / "items.tsv").read_text().splitlines()]
    rows = [[*lines[0], "least", "region"]]
    for n, line in enumerate(lines[1:]):
        rows.append([*line, str(age) if n % 3 == 0 else "", ["x", "x y", "y", ""][n % 4]])
    (folder / "items.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")


def test_every_list_keeps_the_rules_and_says_truly_why_it_is_short(spark: SparkSession, config: Path) -> None:
    loaded = load_config(str(config))
    lake, rules = Lake(spark, loaded.lake.root), loaded.score.rules
    assert [type(rule) for rule in rules] == [Rule, Rule]
    items = {r["item_id"]: item_of(r["attributes"], r["features"]) for r in lake.read(ITEMS).collect()}
    users = {row["user_id"]: json.loads(row["attributes"]) for row in lake.read(USERS).collect()}
    seen = {row["user_id"]: {s["item_id"] for s in row["seen"]} for row in lake.read(USER_SEEN).collect()}
    lists = lake.read(RECOMMENDATIONS).collect()
    assert len(lists) == len(users)
    digests, short = {}, 0
    for row in lists:
        user, own = users[row["user_id"]], seen.get(row["user_id"], set())
        blocked = set(user["blocked"].split(",")) if "blocked" in user else set()
        by_rules = [item for item in items if all(allowed(rule, items[item], user) for rule in rules)]
        left = [item for item in by_rules if item not in own | blocked]
        listed = [item["item_id"] for item in row["items"]]
        assert set(listed) <= set(left), row["user_id"]
        assert len(listed) == min(loaded.score.k, len(left))
        digests.setdefault(frozenset(by_rules), set()).add(row["eligibility_digest"])
        if len(left) >= loaded.score.k:
            assert row["shortfall"] is None
            continue
        short += 1
        numbers = [int(n) for n in re.findall(r"(\d+)(?= (?:candidates|not available|denied|seen))", row["shortfall"])]
        assert numbers[0] - sum(numbers[1:]) == len(left), row["shortfall"]
    assert {row["source"] for row in lists} == {"model", "popularity"}
    assert short > 0
    assert len(digests) > 2
    assert all(len(found) == 1 for found in digests.values()), "users of one class were filtered differently"


def test_a_catalogue_that_changes_for_rules_alone_is_not_weighed_again(spark: SparkSession, config: Path) -> None:
    lake = Lake(spark, load_config(str(config)).lake.root)
    before = lake.last_commit(CANDIDATE_WEIGHTS)
    write_attributes(config.parent, 25)
    for job in ("ingest-events", "weigh-candidates"):
        assert main([job, "--config", str(config), "--date", "2026-01-09"]) == EXIT_OK
    assert lake.last_commit(CANDIDATE_WEIGHTS) == before
    now = lake.read(ITEMS).where("valid_to IS NULL").collect()
    ages = {json.loads(row["attributes"]).get("least_age") for row in now}
    assert ages == {25.0, None}
