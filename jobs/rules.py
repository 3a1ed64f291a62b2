"""Rules as Spark columns: what each keeps of the catalogue, and which users it tells apart.

A user's *class* is the combination of his values that rules read, each *reduced* to what the catalogue can tell
apart: whether he has one of `user_values` (0 or 1), how many of the items' distinct numbers are at or below his
(`minimum`), the place of his value among those that items name too, 0 for every other and for none (`match`).
Users of one class may get exactly the same items, own denials and seen items aside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    reduced = users.select(
        F.array(*[reduced_value(*pair) for pair in zip(rules, domains, strict=True)]).alias("class")
    ).distinct()
    found = reduced.limit(most + 1).collect()
    if len(found) > most:
        read = sorted({rule.user for rule in rules if rule.user})
        raise ConfigError(
            f"score.rules: expected at most {most} classes of users (score.max_rule_classes), "
            f"found {reduced.count()} by the user attributes {', '.join(read)}"
        )
    return UserClasses(rules, domains, tuple(sorted(tuple(row["class"]) for row in found)))


def user_class(classes: UserClasses) -> Column:
    """int: the class of a user (attributes); an error where the user is of none, which the same users never are."""
    if len(classes.found) <= 1:
        return F.lit(0)
    pairs = zip(classes.rules, classes.domains, strict=True)
    key = F.concat_ws(",", *[reduced_value(*pair).cast("string") for pair in pairs])
    keys = [F.lit(",".join(map(str, values))) for values in classes.found]
    place = F.array_position(F.array(*keys), key).cast("int")
    wrong = F.raise_error(F.lit("a user of no known rule class: users changed under the night"))
    return F.when(place > 0, place - 1).otherwise(wrong.cast("int"))


def denied_items(denied: Denied | None) -> Column:
    """array<string>: distinct ids of items that a user (attributes) must not get; empty, never null."""
    nothing = F.array().cast("array<string>")
    if denied is None:
        return nothing
    words = F.split(_user_value(denied.user), f"\\Q{denied.separator}\\E")
    ids = F.filter(F.transform(words, lambda word: F.trim(word)), lambda word: word != "")
    return F.coalesce(F.array_distinct(ids), nothing)


def reduced_value(rule: Rule, domain: Domain) -> Column:
    """int: what of a user (attributes) the rule can tell apart; 1 for everybody where it reads no user."""
    if not rule.user:
        return F.lit(1)
    value = _user_value(rule.user)
    if rule.kind in (ALLOW, DENY):
        return F.coalesce(value.isin(*rule.user_values), F.lit(False)).cast("int")
    if not domain:
        return F.lit(0)
    known = F.array(*[F.lit(entry) for entry in domain])
    if rule.kind == MATCH:
        return F.coalesce(F.array_position(known, value).cast("int"), F.lit(0))
    number = _finite(value)
    return F.size(F.filter(known, lambda least: least <= number))


def keeps(rule: Rule, domain: Domain, reduced: int) -> Column | None:
    """bool, never null: whether an item (features, attributes) stays for users of the reduced value; None: always."""
    if rule.kind in (ALLOW, DENY):
        if not reduced:
            return None
        words = item_words(rule.item)
        hit = F.coalesce(F.arrays_overlap(words, F.array(*[F.lit(v) for v in rule.values])), F.lit(False))
        return hit if rule.kind == ALLOW else ~hit
    value = item_number(rule.item) if rule.kind == MINIMUM else item_words(rule.item)
    if not reduced:
        return value.isNull()
    own = F.lit(domain[reduced - 1])
    return value.isNull() | (value <= own if rule.kind == MINIMUM else F.array_contains(value, own))


def item_number(name: str) -> Column:
    """double: an item's numeric attribute, else feature; null where it has none."""
    return F.coalesce(*[_json_field(column, name, DoubleType()) for column in ("attributes", "features")])


def item_words(name: str) -> Column:
    """array<string>: an item's categorical attribute, else feature, one value or several; null where it has none."""
    several = ArrayType(StringType())
    found = []
    for column in ("attributes", "features"):
        one = _json_field(column, name, StringType())
        # a value of the other form is null, so a list is never taken for a string that looks like one
        found += [_json_field(column, name, several), F.when(one.isNotNull(), F.array(one))]
    words = F.coalesce(*found)
    return F.when(F.size(words) > 0, words)


def _json_field(column: str, name: str, kind: DataType) -> Column:
    """One key of a JSON column; null where it is absent or of another type."""
    return F.from_json(F.col(column), StructType([StructField(name, kind)])).getField(name)


def _user_value(name: str) -> Column:
    return _json_field("attributes", name, StringType())


def _finite(value: Column) -> Column:
    """The number that a string holds; null for none, and for NaN, which Spark sorts above every age."""
    number = value.try_cast("double")
    return F.when(F.abs(number) < float("inf"), number)


def _find_domains(
    rules: Sequence[Rule], items: DataFrame, users: DataFrame, most: int
) -> tuple[Domain, ...]:
    """What each rule tells apart; one pass over either side, collects at most `most` values a rule, and one."""
    sides = [
        _values(items, {n: _item_values(rule) for n, rule in enumerate(rules) if rule.kind in (MINIMUM, MATCH)}, _ITEM),
        _values(
            users, {n: F.array(_user_value(r.user)) for n, r in enumerate(rules) if r.kind == MATCH}, _USER
        ),
    ]
    both = sides[0].unionByName(sides[1]).groupBy("rule", "value").agg(F.bit_or("side").alias("sides"))
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


def _item_values(rule: Rule) -> Column:
    """array<string>; a number's text is exact in both directions."""
    return F.array(item_number(rule.item).cast("string")) if rule.kind == MINIMUM else item_words(rule.item)


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
