"""What may be recommended to whom, as declared in `[[score.rules]]` and `[score.denied]`, checked before any work.

A rule reads one categorical or numeric item attribute (or feature) and maybe one user attribute:

| kind | an item stays where | an item without the attribute | a user without his |
|---|---|---|---|
| `allow` | one of its values is in `values` | goes | is not one of `user_values` |
| `deny` | none of its values is in `values` | stays | is not one of `user_values` |
| `minimum` | its number is at most the user's number | stays | has no number: keeps only such items |
| `match` | one of its values is the user's value | stays | has no value: keeps only such items |

`allow` and `deny` hold for everybody, or with `user` and `user_values` for the users who have one of these values.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import ConfigError

ALLOW, DENY, MINIMUM, MATCH = "allow", "deny", "minimum", "match"
KINDS = (ALLOW, DENY, MINIMUM, MATCH)


@dataclass(frozen=True)
class Rule:
    """One rule on item and user attributes; `name` is what a short list calls it."""

    kind: str
    item: str  # an item attribute or feature
    values: tuple[str, ...] = ()  # allow, deny: of the item
    user: str = ""  # a user attribute
    user_values: tuple[str, ...] = ()  # allow, deny: only for users who have one of these
    name: str = ""  # default: kind and item

    @property
    def label(self) -> str:
        """How reports and short lists name the rule."""
        return self.name or f"{self.kind} {self.item}"


@dataclass(frozen=True)
class Denied:
    """A user attribute that lists items this user must never get."""

    user: str
    separator: str = " "


def check_filters(
    rules: Sequence[Rule], denied: Denied | None, item_kinds: Mapping[str, str], user_names: Collection[str]
) -> None:
    """Raise ConfigError at the first rule that is not whole or names an attribute that nothing declares.

    `item_kinds` are the declared item attributes and features with their kinds, `user_names` the user attributes.
    """
    if denied is not None:
        _check_declared("score.denied.user", denied.user, user_names, "[users.attributes]")
        if not denied.separator:
            raise ConfigError("score.denied.separator: expected at least one character, found none")
    for number, rule in enumerate(rules):
        where = f"score.rules[{number}]"
        if rule.kind not in KINDS:
            raise ConfigError(f"{where}.kind: expected one of {', '.join(KINDS)}; found {rule.kind!r}")
        _check_keys(where, rule)
        _check_declared(f"{where}.item", rule.item, item_kinds, "[items.attributes] or [items.features]")
        if rule.user:
            _check_declared(f"{where}.user", rule.user, user_names, "[users.attributes]")
        kind = "numeric" if rule.kind == MINIMUM else "categorical"
        if item_kinds[rule.item] != kind:
            raise ConfigError(
                f"{where}.item: {rule.kind} expects a {kind} attribute, found {rule.item!r}, {item_kinds[rule.item]}"
            )
        if rule.label in [earlier.label for earlier in rules[:number]]:
            raise ConfigError(f"{where}.name: expected a name of its own, found a second {rule.label!r}")


def _check_keys(where: str, rule: Rule) -> None:
    """Each kind needs some keys and refuses others, so that no setting is silently without effect."""
    given = {key: bool(getattr(rule, key)) for key in ("values", "user", "user_values")}
    by_value = rule.kind in (ALLOW, DENY)
    conditional = given["user"] or given["user_values"]
    needed = {"values": by_value, "user": conditional or not by_value, "user_values": conditional and by_value}
    for key, need in needed.items():
        if given[key] != need:
            expected = "a value" if need else "none"
            raise ConfigError(
                f"{where}.{key}: {rule.kind} expects {expected} here, found {getattr(rule, key) or 'none'!r}"
            )


def _check_declared(where: str, name: str, declared: Collection[str], tables: str) -> None:
    if name not in declared:
        raise ConfigError(f"{where}: expected an attribute of {tables}: {sorted(declared)}; found {name!r}")
