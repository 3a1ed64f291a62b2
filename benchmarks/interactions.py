"""Interaction data for the experiments: MovieLens-100k with its features, or a user's own file of lines."""

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError

EVENT = "event"


@dataclass(frozen=True)
class Event:
    """One line of the data."""

    item_id: str
    ts: int  # microseconds; the place in the user's history where the data has no times
    event_type: str


@dataclass(frozen=True)
class Interactions:
    """Each user's events in order of (timestamp, line number), and what is known of items.

    Test is the last event, validation the one before, training the rest. Users with fewer than three events
    cannot be split: they only train.
    """

    users: dict[str, tuple[Event, ...]]
    features: dict[str, str]  # item id to features JSON, for every item of the file
    timed: bool

    @property
    def items(self) -> list[str]:
        """Every item of the file, in UTF-8 byte order."""
        return sorted(self.features, key=str.encode)

    def tested(self) -> dict[str, tuple[Event, ...]]:
        return {user: events for user, events in self.users.items() if len(events) >= 3}

    def training(self, user: str) -> tuple[Event, ...]:
        """What a model may learn from: all but validation and test."""
        events = self.users[user]
        return events[:-2] if len(events) >= 3 else events

    def training_counts(self) -> Counter[str]:
        """Training events of each item."""
        return Counter(event.item_id for user in self.users for event in self.training(user))


def movielens_100k(folder: Path) -> Interactions:
    """The three original files: every rating is an event, its value the event type, genres and year features."""
    features = {}
    for line in _lines(folder / "ml-100k.item")[1:]:
        item, _, year, genres = line.split("\t")
        known: dict[str, object] = {"genres": sorted(genres.split())} if genres not in ("", "unknown") else {}
        known |= {"release_year": float(year)} if year.isdigit() else {}
        features[item] = json.dumps(known, sort_keys=True)
    rows = []
    for line in _lines(folder / "ml-100k.inter")[1:]:
        user, item, rating, ts = line.split("\t")
        rows.append((user, Event(item, int(ts) * 1_000_000, _liking(int(rating)))))
    rated = {event.item_id for _, event in rows}
    return _interactions(rows, {item: text for item, text in features.items() if item in rated}, True)


def _liking(rating: int) -> str:
    return "disliked" if rating <= 2 else "liked" if rating >= 4 else "neutral"


def from_file(path: Path) -> Interactions:
    """Lines `user item` in time order within a user, or `user item timestamp` (seconds). May be gzipped."""
    lines = [(number, line.split()) for number, line in enumerate(_lines(path), start=1) if line.strip()]
    if not lines:
        raise InputError(f"{path}: expected lines `user item` or `user item timestamp`, found none")
    fields = len(lines[0][1])
    rows = []
    for number, parts in lines:
        if len(parts) != fields or fields not in (2, 3):
            raise InputError(
                f"{path}, line {number}: expected {'2 or 3' if fields not in (2, 3) else fields} fields "
                f"(`user item` or `user item timestamp`, the same on every line), found {len(parts)}"
            )
        rows.append((parts[0], Event(parts[1], _micros(path, number, parts[2]) if fields == 3 else 0, EVENT)))
    return _interactions(rows, dict.fromkeys((event.item_id for _, event in rows), "{}"), fields == 3)


def _micros(path: Path, number: int, text: str) -> int:
    try:
        return round(float(text) * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}, line {number}: expected a timestamp in seconds, found {text!r}") from error


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a readable text file, found {error}") from error


def _interactions(rows: list[tuple[str, Event]], features: dict[str, str], timed: bool) -> Interactions:
    users: dict[str, list[Event]] = {}
    for user, event in rows:
        users.setdefault(user, []).append(event)
    # sorted() is stable: events of one second keep the order of their lines
    ordered = {user: tuple(sorted(events, key=lambda event: event.ts)) for user, events in users.items()}
    return Interactions(ordered, features, timed)
