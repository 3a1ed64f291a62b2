"""Rules: what a configuration may declare, what each kind keeps, which users it tells apart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.tiny import write_platform
from jobs.config import Config, EventSource, Feature, ItemSource, LakeConfig, ScoreConfig, UserSource, load_config
from jobs.rule_config import Denied, Rule
from jobs.rules import (
    Domain,
    denied_items,
    find_classes,
    keeps,
    reduced_value,
    with_binding_rules,
    with_item_values,
    with_rule_class,
    with_user_values,
)
from schemas.errors import ConfigError
from tests.jobs.rule_reference import allowed, item_of

EVENTS = EventSource("csv", "none", {"user_id": "u", "item_id": "i", "event_ts": "t"})
NUMERIC, WORDS = Feature("x", "numeric"), Feature("x")
ITEM_SOURCE = ItemSource("csv", "none", {"item_id": "i"}, {"genre": WORDS}, {"age": NUMERIC, "region": WORDS})
USER_SOURCE = UserSource("csv", "none", {"user_id": "u"}, {"age": "a", "country": "c", "blocked": "b"})

MINIMUM = Rule("minimum", "age", user="age")
MATCH = Rule("match", "region", user="country")


def items_of(spark: SparkSession, *items: tuple[dict[str, Any], dict[str, Any]]) -> DataFrame:
    """(attributes, features) of items, in order."""
    rows = [(n, json.dumps(attributes), json.dumps(features)) for n, (attributes, features) in enumerate(items)]
    return spark.createDataFrame(rows, "n int, attributes string, features string")


def users_of(spark: SparkSession, *users: dict[str, str]) -> DataFrame:
    rows = [(n, json.dumps(user)) for n, user in enumerate(users)]
    return spark.createDataFrame(rows, "n int, attributes string")


def domain_of(rule: Rule, items: Sequence[dict[str, Any]], users: Sequence[dict[str, str]]) -> Domain:
    """What the module's docstring says a rule tells apart, in plain Python."""
    found = [item.get(rule.item) for item in items]
    if rule.kind == "minimum":
        return tuple(sorted({float(value) for value in found if value is not None}))
    named = {value for entry in found if entry for value in (entry if isinstance(entry, list) else [entry])}
    return tuple(sorted(named & {user.get(rule.user) for user in users})) if rule.kind == "match" else ()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("ban", "region"), r"score.rules\[1\].kind: expected one of allow, deny, minimum, match; found 'ban'"),
        (Rule("deny", "colour", ("x",)), r"rules\[1\].item: expected .*\['age', 'genre', 'region'\]; found 'colour'"),
        (Rule("match", "region", user="land"), r"rules\[1\].user: expected .*'country'\]; found 'land'"),
        (Rule("deny", "region"), r"rules\[1\].values: deny expects a value here, found 'none'"),
        (Rule("deny", "region", ("x",), "age"), r"rules\[1\].user_values: deny expects a value"),
        (Rule("allow", "region", ("x",), "", ("y",)), r"rules\[1\].user: allow expects a value"),
        (Rule("minimum", "age"), r"rules\[1\].user: minimum expects a value"),
        (Rule("match", "region", ("x",), "country"), r"rules\[1\].values: match expects none here, found \('x',\)"),
        (Rule("minimum", "age", (), "age", ("1",)), r"rules\[1\].user_values: minimum expects none"),
        (Rule("minimum", "region", user="age"), r"minimum expects a numeric attribute, found 'region', categorical"),
        (Rule("deny", "age", ("18.0",)), r"deny expects a categorical attribute, found 'age', numeric"),
        (Rule("deny", "region", ("y",)), r"rules\[1\].name: expected a name of its own, found a second 'deny region'"),
    ],
)
def test_a_rule_that_is_not_whole_is_refused_before_any_work(rule: Rule, expected: str) -> None:
    score = ScoreConfig(rules=(Rule("deny", "region", ("x",)), rule))
    with pytest.raises(ConfigError, match=expected):
        Config(LakeConfig("none"), EVENTS, ITEM_SOURCE, USER_SOURCE, score=score)


def test_denials_and_names_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"score.denied.user: expected .*\[\]; found 'blocked'"):
        Config(LakeConfig("none"), EVENTS, ITEM_SOURCE, score=ScoreConfig(denied=Denied("blocked")))
    with pytest.raises(ConfigError, match=r"score.denied.separator: expected at least one character"):
        Config(LakeConfig("none"), EVENTS, ITEM_SOURCE, USER_SOURCE, score=ScoreConfig(denied=Denied("blocked", "")))
    with pytest.raises(ConfigError, match=r"items.attributes: expected names .* found \['x'\]"):
        ItemSource("csv", "none", {"item_id": "i"}, {"x": WORDS}, {"x": WORDS})


def test_rules_are_read_from_the_file_and_typed(tmp_path: Path) -> None:
    file = write_platform(tmp_path)
    declared = """
max_rule_classes = 9
denied = { user = "age", separator = "," }
[[score.rules]]
kind = "minimum"
item = "year"
user = "age"
name = "for adults"
"""
    file.write_text(file.read_text().replace("\n[publish]", declared + "\n[publish]"))
    score = load_config(str(file)).score
    assert score.rules == (Rule("minimum", "year", user="age", name="for adults"),)
    assert (score.max_rule_classes, score.denied, score.rules[0].label) == (9, Denied("age", ","), "for adults")
    file.write_text(file.read_text().replace('item = "year"', 'items = "year"'))
    with pytest.raises(ConfigError, match=r"score.rules\[0\]: unknown keys \['items'\]; known are"):
        load_config(str(file))


VALUE = st.sampled_from(["x", "y", "z", "[x]", ""])
CATEGORY = st.one_of(VALUE, st.lists(VALUE, min_size=1, max_size=3, unique=True))
NUMBER = st.sampled_from([0.0, 12.0, 12.5, 18.0])
ITEM = st.tuples(
    st.fixed_dictionaries({}, optional={"age": NUMBER, "region": CATEGORY, "genre": CATEGORY}),
    st.fixed_dictionaries({}, optional={"age": NUMBER, "region": CATEGORY, "genre": CATEGORY}),
)
USER = st.fixed_dictionaries(
    {}, optional={"age": st.sampled_from(["0", "12", "12.5", "17.99", "99", "NaN", "Infinity", "old", "-1"]),
                  "country": st.sampled_from(["x", "y", "q", "[x]"])}
)  # fmt: skip
SOME = st.lists(VALUE, min_size=1, max_size=2, unique=True).map(tuple)
BY_VALUE = st.builds(Rule, st.sampled_from(["allow", "deny"]), st.sampled_from(["genre", "region"]), SOME)
FOR_SOME = st.builds(
    Rule, st.sampled_from(["allow", "deny"]), st.just("genre"), SOME, st.just("country"), SOME
)
RULES = st.one_of(BY_VALUE, FOR_SOME, st.just(MINIMUM), st.just(MATCH), st.just(Rule("match", "genre", user="country")))


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(ITEM, min_size=20, max_size=20), st.lists(USER, min_size=15, max_size=15),
    st.lists(RULES, min_size=12, max_size=12),
)  # fmt: skip
def test_every_rule_keeps_what_the_plain_reference_keeps(
    spark: SparkSession,
    items: list[tuple[dict[str, Any], dict[str, Any]]],
    users: list[dict[str, str]],
    rules: list[Rule],
) -> None:
    """Rules by the dozen in one job a side: all pairs of items and users against one pair at a time."""
    plain = [item_of(json.dumps(attributes), json.dumps(features)) for attributes, features in items]
    domains = [domain_of(rule, plain, users) for rule in rules]
    told = [reduced_value(rule, domains[n], F.col(f"user_value_{n}")) for n, rule in enumerate(rules)]
    reduced = with_user_values(users_of(spark, *users), rules).orderBy("n").select(*_numbered(told)).collect()
    wanted = sorted({(n, row[n]) for row in reduced for n in range(len(rules))})
    columns = [keeps(rules[n], domains[n], value, F.col(f"item_value_{n}")) for n, value in wanted]
    kept = (
        with_item_values(items_of(spark, *items), rules)
        .orderBy("n")
        .select(*_numbered(F.lit(True) if column is None else column for column in columns))
        .collect()
    )
    column_of = {pair: place for place, pair in enumerate(wanted)}
    for u, user in enumerate(users):
        for n, rule in enumerate(rules):
            found = [row[column_of[n, reduced[u][n]]] for row in kept]
            assert found == [allowed(rule, item, user) for item in plain], (rule, user)


def _numbered(columns: Any) -> list[Any]:
    return [column.alias(f"c{n}") for n, column in enumerate(columns)]


@pytest.mark.parametrize(
    ("rule", "item", "user", "expected"),
    [
        (Rule("allow", "genre", ("x",)), {"genre": ["w", "x"]}, {}, True),
        (Rule("allow", "genre", ("x",)), {"genre": "w"}, {}, False),
        (Rule("allow", "genre", ("x",)), {}, {}, False),  # a list of what may be shown: the unknown is not on it
        (Rule("allow", "genre", ("x",), "country", ("y",)), {}, {}, True),  # not for this user
        (Rule("deny", "genre", ("x",)), {"genre": ["w", "x"]}, {}, False),
        (Rule("deny", "genre", ("x",)), {}, {}, True),
        (Rule("deny", "genre", ("x",), "country", ("y",)), {"genre": "x"}, {"country": "y"}, False),
        (Rule("deny", "genre", ("x",), "country", ("y",)), {"genre": "x"}, {"country": "z"}, True),
        (MINIMUM, {"age": 18.0}, {"age": "18"}, True),
        (MINIMUM, {"age": 18.0}, {"age": "17.9"}, False),
        (MINIMUM, {"age": 18.0}, {}, False),  # a user of unknown age gets only what is for everybody
        (MINIMUM, {"age": 18.0}, {"age": "NaN"}, False),
        (MINIMUM, {"age": 18.0}, {"age": "Infinity"}, False),
        (MINIMUM, {}, {}, True),
        (MATCH, {"region": ["x", "y"]}, {"country": "y"}, True),
        (MATCH, {"region": "x"}, {"country": "y"}, False),
        (MATCH, {"region": "x"}, {}, False),
        (MATCH, {}, {"country": "y"}, True),  # no region: everywhere
    ],
)
def test_the_reference_is_the_documented_truth_table(
    rule: Rule, item: dict[str, Any], user: dict[str, str], expected: bool
) -> None:
    assert allowed(rule, item, user) is expected


def test_users_are_told_apart_no_further_than_the_catalogue_can(spark: SparkSession) -> None:
    items = items_of(
        spark,
        ({"age": 18.0, "region": ["x", "y"]}, {}),
        ({"age": 12.0, "region": "unused"}, {}),
        ({"region": []}, {"genre": "g", "age": 12.0}),
        ({}, {}),
    )
    users = [
        {"age": "11", "country": "x"},  # below every item's age
        {"age": "old", "country": "x"},  # no number: as good as below
        {"age": "13", "country": "q"},  # a country that no item names
        {"age": "17"},  # no country: as good as one that no item names
        {"age": "18", "country": "y"},
        {"age": "80", "country": "y", "blocked": " b  a b "},
    ]
    deny = Rule("deny", "genre", ("g",), "country", ("y",))
    score = ScoreConfig(rules=(MINIMUM, MATCH, deny, Rule("allow", "genre", ("g",))), denied=Denied("blocked"))
    frame = users_of(spark, *users)
    classes = find_classes(score, items, frame)
    assert classes.domains == ((12.0, 18.0), ("x", "y"), (), ())
    assert classes.found == ((0, 1, 0, 1), (1, 0, 0, 1), (2, 2, 1, 1))
    classed = with_rule_class(frame, classes).withColumn("denied", denied_items(score.denied))
    assert classed.columns == [*frame.columns, "rule_class", "denied"]
    rows = classed.orderBy("n").collect()
    assert [row["rule_class"] for row in rows] == [0, 0, 1, 1, 2, 2]
    assert [row["denied"] for row in rows] == [[], [], [], [], [], ["b", "a"]]


def test_more_classes_than_allowed_are_an_error_that_names_them(spark: SparkSession) -> None:
    items = items_of(spark, ({"age": 12.0, "region": "x"}, {}), ({"age": 18.0}, {}))
    users = users_of(spark, *({"age": str(n), "country": c} for n in (1, 15, 20) for c in "xy"))
    both = ScoreConfig(rules=(MINIMUM, MATCH), max_rule_classes=5)
    with pytest.raises(ConfigError, match=r"at most 5 classes of users .* found 6 by the user attributes age, country"):
        find_classes(both, items, users)
    one = ScoreConfig(rules=(MINIMUM,), max_rule_classes=1)
    with pytest.raises(ConfigError, match=r"rules\[0\]: expected at most 1 values of 'age' .*, found 2 or more"):
        find_classes(one, items, users)


def test_a_user_of_no_class_stops_the_night(spark: SparkSession) -> None:
    items = items_of(spark, ({"age": 12.0, "region": "x"}, {}))
    users = users_of(spark, {"age": "1"}, {"age": "20", "country": "x"})
    classes = find_classes(ScoreConfig(rules=(MINIMUM, MATCH)), items, users)
    changed = users_of(spark, {"age": "1", "country": "x"})
    with pytest.raises(PySparkException, match="a user of no known rule class"):
        with_rule_class(changed, classes).collect()


@pytest.mark.parametrize("rules", [(), (Rule("deny", "genre", ("g",)),)])
def test_rules_that_read_no_user_make_one_class(spark: SparkSession, rules: tuple[Rule, ...]) -> None:
    nothing = users_of(spark, {})
    classes = find_classes(ScoreConfig(rules=rules), nothing, nothing)
    assert len(classes.found) == 1
    row = with_rule_class(nothing, classes).select("rule_class", denied_items(None)).collect()[0]
    assert row == (0, [])


def test_a_rule_binds_whoever_it_can_say_anything_of(spark: SparkSession) -> None:
    some = Rule("allow", "genre", ("a",), "country", ("CH", "DE"))
    rules = (Rule("deny", "genre", ("b",)), some, MINIMUM, MATCH)
    users = users_of(spark, {"country": "CH", "age": "7"}, {"country": "FR"}, {})
    rows = with_binding_rules(users, rules).collect()
    found = [[json.loads(rule)["kind"] for rule in row["binding"]] for row in rows]
    assert found == [["deny", "allow", "minimum", "match"], *[["deny", "minimum", "match"]] * 2]
    assert [row["binding"] for row in with_binding_rules(users, ()).collect()] == [[], [], []]
