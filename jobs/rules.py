"""Rules as Spark columns: what each keeps of the catalogue, and which users it tells apart.

A user's *class* is the combination of his values that rules read, each *reduced* to what the catalogue can tell
apart: whether he has one of `user_values` (0 or 1), how many of the items' distinct numbers are at or below his
(`minimum`), the place of his value among those that items name too, 0 for every other and for none (`match`).
Users of one class may get exactly the same items, own denials and seen items aside.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DoubleType, StringType, StructField, StructType

from jobs.config import ScoreConfig
from jobs.rule_config import ALLOW, DENY, MATCH, MINIMUM, Denied, Rule
from schemas.errors import ConfigError

_ITEM, _USER = 1, 2  # bits: which side has a value

Domain = tuple[float | str, ...]
"""What a rule tells apart, in order: the items' numbers of `minimum`, the shared values of `match`."""


@dataclass(frozen=True)
class UserClasses:
    """The classes of a night's users; a class's number is its place in `found`."""

    rules: tuple[Rule, ...]
    domains: tuple[Domain, ...]  # one a rule
    found: tuple[tuple[int, ...], ...]  # the reduced value of each rule


def find_classes(config: ScoreConfig, items: DataFrame, users: DataFrame) -> UserClasses:
    """The classes of `users` (attributes) over `items` (features, attributes), both as of the night.

    Raises ConfigError where there are more than `max_rule_classes`. Collects at most one row a class.
    """
    rules, most = config.rules, config.max_rule_classes
    if not any(rule.user for rule in rules):
        return UserClasses(rules, ((),) * len(rules), ((1,) * len(rules),))
    domains = _find_domains(rules, items, users, most)
    reduced = with_user_values(users, rules).select(F.array(*_reduced(rules, domains)).alias("class")).distinct()
    found = reduced.limit(most + 1).collect()
    if len(found) > most:
        read = sorted({rule.user for rule in rules if rule.user})
        raise ConfigError(
            f"score.rules: expected at most {most} classes of users (score.max_rule_classes), "
            f"found {reduced.count()} by the user attributes {', '.join(read)}"
        )
    return UserClasses(rules, domains, tuple(sorted(tuple(row["class"]) for row in found)))


def with_rule_class(users: DataFrame, classes: UserClasses) -> DataFrame:
    """Add `rule_class` int; an error where a user (attributes) is of no class, which the same users never are."""
    if len(classes.found) <= 1:
        return users.withColumn("rule_class", F.lit(0))
    key = F.concat_ws(",", *[value.cast("string") for value in _reduced(classes.rules, classes.domains)])
    keys = F.array(*[F.lit(",".join(map(str, values))) for values in classes.found])
    placed = with_user_values(users, classes.rules).withColumn("place", F.array_position(keys, key).cast("int"))
    wrong = F.raise_error(F.lit("a user of no known rule class: users changed under the night"))
    class_ = F.when(F.col("place") > 0, F.col("place") - 1).otherwise(wrong.cast("int"))
    return placed.select(*users.columns, class_.alias("rule_class"))


def with_binding_rules(users: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add `binding` array<string>, never null: the rules, each whole, that say anything of a user (attributes)."""
    binding = [F.when(_binds(n, rule), F.lit(json.dumps(asdict(rule), sort_keys=True))) for n, rule in enumerate(rules)]
    known = with_user_values(users, rules)
    return known.select(*users.columns, F.array_compact(F.array(*binding).cast("array<string>")).alias("binding"))


def denied_items(denied: Denied | None) -> Column:
    """array<string>: distinct ids of items that a user (attributes) must not get; empty, never null."""
    nothing = F.array().cast("array<string>")
    if denied is None:
        return nothing
    listed = F.from_json("attributes", _struct([denied.user], StringType())).getField(denied.user)
    words = F.split(listed, f"\\Q{denied.separator}\\E")
    ids = F.filter(F.transform(words, lambda word: F.trim(word)), lambda word: word != "")
    return F.coalesce(F.array_distinct(ids), nothing)


def with_user_values(users: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add `user_value_<n>`, what rule n reads of a user (attributes): a number for `minimum`, else a string, or null.

    Columns of their own, for Spark parses JSON again at every mention of an expression, and only once of a column.
    """
    names = sorted({rule.user for rule in rules if rule.user})
    if not names:
        return users
    parsed = users.withColumn("user_json", F.from_json("attributes", _struct(names, StringType())))
    values = {n: F.col("user_json").getField(rule.user) for n, rule in enumerate(rules) if rule.user}
    typed = {n: _finite(value) if rules[n].kind == MINIMUM else value for n, value in values.items()}
    return parsed.withColumns({f"user_value_{n}": value for n, value in typed.items()}).drop("user_json")


def with_item_values(items: DataFrame, rules: Sequence[Rule]) -> DataFrame:
    """Add `item_value_<n>`, what rule n reads of an item: its attribute, else its feature, else null.

    A number for `minimum`, else the values as array<string>, never empty.
    """
    if not rules:
        return items
    words = _struct(sorted({rule.item for rule in rules if rule.kind != MINIMUM}), ArrayType(StringType()))
    numbers = _struct(sorted({rule.item for rule in rules if rule.kind == MINIMUM}), DoubleType())
    one = _struct(words.names, StringType())
    parsed = items.withColumns(
        {
            f"{column}_{form}": F.from_json(column, struct)
            for column in ("attributes", "features")
            for form, struct in (("several", StructType([*words, *numbers])), ("one", one))
            if struct.names
        }
    )
    values = {f"item_value_{n}": _item_value(rule) for n, rule in enumerate(rules)}
    return parsed.withColumns(values).select(*items.columns, *values)


def _binds(n: int, rule: Rule) -> Column:
    """bool, never null: `minimum` and `match` bind whoever lacks a value too."""
    if rule.kind in (ALLOW, DENY) and rule.user:
        return reduced_value(rule, (), F.col(f"user_value_{n}")) == 1
    return F.lit(True)


def reduced_value(rule: Rule, domain: Domain, value: Column) -> Column:
    """int: what the rule can tell apart of a user's value; 1 for everybody where it reads no user."""
    if not rule.user:
        return F.lit(1)
    if rule.kind in (ALLOW, DENY):
        return F.coalesce(value.isin(*rule.user_values), F.lit(False)).cast("int")
    if not domain:
        return F.lit(0)
    if rule.kind == MATCH:
        known = F.array(*[F.lit(entry) for entry in domain])
        return F.coalesce(F.array_position(known, value).cast("int"), F.lit(0))
    reached = [(value >= F.lit(least)).cast("int") for least in domain]
    return F.coalesce(reduce(add, reached), F.lit(0))


def keeps(rule: Rule, domain: Domain, reduced: int, value: Column) -> Column | None:
    """bool, never null: whether an item's value stays for users of the reduced value; None: whatever it is."""
    if rule.kind in (ALLOW, DENY):
        if not reduced:
            return None
        hit = F.coalesce(F.arrays_overlap(value, F.array(*[F.lit(v) for v in rule.values])), F.lit(False))
        return hit if rule.kind == ALLOW else ~hit
    if not reduced:
        return value.isNull()
    own = F.lit(domain[reduced - 1])
    return value.isNull() | (value <= own if rule.kind == MINIMUM else F.array_contains(value, own))


def _reduced(rules: Sequence[Rule], domains: Sequence[Domain]) -> list[Column]:
    """Each rule's reduced value over `with_user_values`."""
    pairs = enumerate(zip(rules, domains, strict=True))
    return [reduced_value(rule, domain, F.col(f"user_value_{n}")) for n, (rule, domain) in pairs]


def _item_value(rule: Rule) -> Column:
    """The first of the parsed forms that is there; a form of another type is null, never a text that looks like it."""
    found = []
    for column in ("attributes", "features"):
        found.append(F.col(f"{column}_several").getField(rule.item))
        if rule.kind != MINIMUM:
            one = F.col(f"{column}_one").getField(rule.item)
            found[-1] = F.when(F.size(found[-1]) > 0, found[-1])
            found.append(F.when(one.isNotNull(), F.array(one)))
    return F.coalesce(*found)


def _struct(names: Sequence[str], kind: DataType) -> StructType:
    return StructType([StructField(name, kind) for name in names])


def _finite(value: Column) -> Column:
    """The number that a string holds; null for none, and for NaN, which Spark sorts above every age."""
    number = value.try_cast("double")
    return F.when(F.abs(number) < float("inf"), number)


def _find_domains(
    rules: Sequence[Rule], items: DataFrame, users: DataFrame, most: int
) -> tuple[Domain, ...]:
    """What each rule tells apart; one pass over either side, collects at most `most` values a rule, and one."""
    named = {n: _texts(rule, f"item_value_{n}") for n, rule in enumerate(rules) if rule.kind in (MINIMUM, MATCH)}
    owned = {n: F.array(f"user_value_{n}") for n, rule in enumerate(rules) if rule.kind == MATCH}
    item_side = _values(with_item_values(items, rules), named, _ITEM)
    sides = item_side.unionByName(_values(with_user_values(users, rules), owned, _USER))
    both = sides.groupBy("rule", "value").agg(F.bit_or("side").alias("sides"))
    one_sided = [n for n, rule in enumerate(rules) if rule.kind == MINIMUM]
    told_apart = both.where((F.col("sides") == _ITEM | _USER) | F.col("rule").isin(one_sided))
    rows = told_apart.limit(most * len(rules) + 1).collect()
    values = [[row["value"] for row in rows if row["rule"] == n] for n in range(len(rules))]
    for n, (rule, found) in enumerate(zip(rules, values, strict=True)):
        if len(found) > most:
            raise ConfigError(
                f"score.rules[{n}]: expected at most {most} values of {rule.item!r} that tell users apart "
                f"(score.max_rule_classes), found {len(found)} or more"
            )
    return tuple(
        tuple(sorted({float(v) for v in found} if rule.kind == MINIMUM else set(found)))
        for rule, found in zip(rules, values, strict=True)
    )


def _texts(rule: Rule, value: str) -> Column:
    """array<string>; a number's text is exact in both directions."""
    return F.array(F.col(value).cast("string")) if rule.kind == MINIMUM else F.col(value)


def _values(rows: DataFrame, columns: dict[int, Column], side: int) -> DataFrame:
    """Grain: from rows to (rule, value) pairs, with the side they are from; nulls fall out."""
    nothing = F.array().cast("array<struct<rule: int, value: string>>")
    pairs = [_pairs(n, values) for n, values in columns.items()]
    all_pairs = F.concat(nothing, *[F.coalesce(column, nothing) for column in pairs])
    found = rows.select(F.explode(all_pairs).alias("entry")).select("entry.*", F.lit(side).alias("side"))
    return found.where(F.col("value").isNotNull())


def _pairs(rule: int, values: Column) -> Column:
    """array<string> -> array<struct<rule, value>>."""

    def pair(value: Column) -> Column:
        return F.struct(F.lit(rule).alias("rule"), value.alias("value"))

    return F.transform(values, pair)
