"""Tables of a TOML file as frozen dataclasses, recursively: unknown keys, missing keys and wrong types are errors."""

import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from schemas.errors import ConfigError


def build(kind: type, raw: Any, where: str) -> Any:
    """A dataclass from a TOML table, recursively."""
    if not isinstance(raw, dict):
        raise ConfigError(f"{where or 'file'}: expected a table, found {raw!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(raw.keys() - fields.keys())
    if unknown:
        raise ConfigError(f"{where or 'file'}: unknown keys {unknown}; known are {sorted(fields)}")
    hints = get_type_hints(kind)
    values = {name: _value(hints[name], value, f"{where}.{name}".lstrip(".")) for name, value in raw.items()}
    none = dataclasses.MISSING
    required = [name for name, f in fields.items() if f.default is none and f.default_factory is none]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{where or 'file'}: missing keys {missing}")
    return kind(**values)


def _value(hint: Any, raw: Any, where: str) -> Any:
    """One value of the hinted type; TOML's own types are taken strictly, an integer for a float aside."""
    if isinstance(hint, UnionType):  # only ever `X | None`, and TOML has no null
        hint = get_args(hint)[0]
    if hasattr(hint, "from_json"):
        return hint.from_json(raw)
    if dataclasses.is_dataclass(hint):
        return build(hint, raw, where)  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(raw, list):
        return tuple(_value(args[0], value, f"{where}[{i}]") for i, value in enumerate(raw))
    if origin is Mapping and isinstance(raw, dict):
        return {key: _value(args[1], value, f"{where}.{key}") for key, value in raw.items()}
    if hint is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if origin is None and isinstance(raw, hint) and isinstance(raw, bool) == (hint is bool):
        return raw
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, found {raw!r}")
