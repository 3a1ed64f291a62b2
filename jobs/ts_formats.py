"""How a source may write a timestamp, judged before Spark runs.

Spark checks a pattern when it meets the first value; then the night has begun.
"""

import re

from schemas.errors import ConfigError

UNITS = {"epoch_seconds": 1_000_000, "epoch_millis": 1_000}  # microseconds in one unit
ISO = "iso"
ISO_DATE = r"^\s*\d{4}-\d{2}-\d{2}"  # without it Spark completes a time with today, a year with 1 January

# Widths that Spark takes when it parses; letters that it only prints, or that count weeks, are missing.
_WIDTHS = {
    **dict.fromkeys("dHhkKms", range(1, 3)),
    **dict.fromkeys("MLGz", range(1, 5)),
    **dict.fromkeys("XxZ", range(1, 6)),
    "y": range(1, 11),
    "D": range(1, 4),
    "S": range(1, 10),
    "a": (1,),
    "O": (1, 4),
    "V": (2,),
}
_TOKEN = re.compile(r"'[^']*'|([A-Za-z])\1*|.", re.DOTALL)


def check_ts_format(where: str, ts_format: str) -> None:
    """Raise ConfigError unless Spark can parse whole dates by it."""
    if ts_format in (ISO, *UNITS):
        return
    letters, fault = _letters(ts_format)
    if not fault and not ("y" in letters and ("D" in letters or ("d" in letters and letters & {"M", "L"}))):
        fault = "no year, month and day"
    if fault:
        raise ConfigError(
            f"{where}: expected {ISO}, {', '.join(UNITS)} or a Spark datetime pattern; found {ts_format!r}: {fault}"
        )


def _letters(pattern: str) -> tuple[set[str], str]:
    """The pattern's letters, and what Spark would not take of it."""
    letters: set[str] = set()
    depth = 0
    for token in _TOKEN.finditer(pattern):
        text, letter = token.group(), token.group(1)
        depth += {"[": 1, "]": -1}.get(text, 0)
        if (letter and len(text) not in _WIDTHS.get(letter, ())) or text in "{}#'" or depth < 0:
            return letters, f"{text!r} has no meaning in it"
        letters.add(letter or "")
    return letters, ""
