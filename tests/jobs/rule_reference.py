"""Rules in plain Python, one pair at a time: what the Spark columns are compared with."""

import json
import math
from collections.abc import Mapping
from typing import Any

from jobs.rule_config import Rule


def allowed(rule: Rule, item: Mapping[str, Any], user: Mapping[str, str]) -> bool:
    """Whether the rule lets this user have this item."""
    value = item.get(rule.item)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if rule.kind in ("allow", "deny"):
        if rule.user and user.get(rule.user) not in rule.user_values:
            return True
        return bool(set(values) & set(rule.values)) == (rule.kind == "allow")
    if value is None:
        return True
    if rule.kind == "match":
        return user.get(rule.user) in values
    own = number(user.get(rule.user))
    return own is not None and value <= own


def number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def item_of(attributes: str, features: str) -> dict[str, Any]:
    """An attribute stands before a feature of the same name."""
    return {**json.loads(features), **json.loads(attributes)}
