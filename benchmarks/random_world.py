"""A platform each of whose users and items has a random life of its own; it remembers all that it ever sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec, Numeric
from lime_model.model import Lime
from lime_model.package import save_package
from lime_model.vocabulary import Vocabulary

FIRST = date(2026, 6, 1)
HISTORY = 6  # events that a history keeps
TYPES, COUNTRIES = ("view", "buy"), ("CH", "DE", "")
CONFIG = """
[lake]
root = "{folder}/lake"
[events]
format = "parquet"
path = "{folder}/events/{{date}}.parquet"
[events.columns]
event_id = "event_id"
user_id = "user_id"
item_id = "item_id"
event_ts = "event_ts"
event_type = "event_type"
source_updated_at = "updated_at"
[items]
format = "parquet"
path = "{folder}/items.parquet"
[items.columns]
item_id = "item_id"
available = "available"
[items.features]
price = {{ column = "price", kind = "numeric" }}
[items.attributes]
region = {{ column = "region" }}
[users]
format = "parquet"
path = "{folder}/users.parquet"
[users.columns]
user_id = "user_id"
[users.attributes]
country = "country"
[model]
width = 16
links = 4
ffn_width = 16
max_history = {history}
[embed]
rows_per_call = 8
length_buckets = [2]
items_per_call = 16
[score]
k = 5
reserve = 3
seen_types = ["buy"]
seen_days = 3
[[score.rules]]
kind = "match"
item = "region"
user = "country"
[publish]
min_full_lists = 0.0
min_overlap = 0.0
max_rows_change = 1.0
[night]
first_date = {first}
"""
Event = dict[str, Any]


@dataclass
class RandomWorld:
    """The platform below one folder, as of the last day that was written."""

    folder: Path
    users: int
    items: int
    seed: int
    date: date = FIRST - timedelta(days=1)

    def __post_init__(self) -> None:
        (self.folder / "events").mkdir(parents=True)
        self._sent_by: dict[str, list[Event]] = {}  # all that a user ever sent, but for bad records
        self._events = 0
        self._chance = np.random.default_rng(self.seed)
        self._catalogue = {f"i{n:04d}": self._new_item() for n in range(self.items)}
        self._people = {f"u{n:04d}": {"country": self._one_of(COUNTRIES), "there": True} for n in range(self.users)}
        self.config.write_text(CONFIG.format(folder=self.folder, history=HISTORY, first=FIRST))
        _save_untrained(self.folder / "lake" / "models", self.seed)

    @property
    def config(self) -> Path:
        return self.folder / "night.toml"

    def move(self) -> None:
        """The next day: its file of events, and both snapshots."""
        self.date += timedelta(days=1)
        records = [record for user in self._people for record in self._records(user)]
        records = [records[place] for place in self._chance.permutation(len(records))]
        schema = pa.schema([
            ("event_id", pa.string()), ("user_id", pa.string()), ("item_id", pa.string()), ("event_type", pa.string()),
            ("event_ts", pa.timestamp("us", "UTC")), ("updated_at", pa.timestamp("us", "UTC")),
        ])  # fmt: skip
        pq.write_table(pa.Table.from_pylist(records, schema), self.folder / "events" / f"{self.date}.parquet")
        for item in self._catalogue.values():
            self._live(item)
        for person in self._people.values():
            person["there"] = self._happens(0.97 if person["there"] else 0.4)
            person["country"] = self._one_of(COUNTRIES) if self._happens(0.03) else person["country"]
        self._write_snapshot("items", "item_id", self._catalogue)
        self._write_snapshot("users", "user_id", self._people)

    def histories(self, cutoff: datetime) -> dict[str, list[tuple[str, str]]]:
        """Each user's last (item, event type)s before the cut-off, by what was sent: the plain reference."""
        found = {}
        for user, sent in self._sent_by.items():
            newest = {e["event_id"]: e for e in sorted(sent, key=lambda e: e["updated_at"])}
            before = [e for e in newest.values() if e["event_ts"] < cutoff]
            last = sorted(before, key=lambda e: (e["event_ts"], e["event_id"]))[-HISTORY:]
            if last:
                found[user] = [(e["item_id"], e["event_type"]) for e in last]
        return found

    def _records(self, user: str) -> list[Event]:
        """What a user sends today: new events, late and future ones too, old ones again, corrections, bad ones."""
        records = [self._event(user) for _ in range(self._chance.choice(4, p=(0.6, 0.25, 0.1, 0.05)))]
        own = self._sent_by.setdefault(user, [])
        if own and self._happens(0.15):
            records.append(self._one_of(own))
        if own and self._happens(0.08):
            other = {"item_id": self._one_of([*self._catalogue]), "updated_at": self._moment()}
            records.append({**self._one_of(own), **other})
        own += records
        if self._happens(0.03):
            records.append({**self._event(user), "item_id": None})
        return records

    def _event(self, user: str) -> Event:
        """One of today; a quarter is up to six days late, a tenth up to three days early."""
        at = self._moment()
        moved = self._chance.random()
        if moved < 0.25:
            at -= timedelta(days=int(self._chance.integers(1, 7)))
        elif moved < 0.35:
            at += timedelta(days=int(self._chance.integers(1, 4)))
        self._events += 1
        names = {"event_id": f"e{self._events:06d}", "user_id": user, "item_id": self._one_of([*self._catalogue])}
        return {**names, "event_type": self._one_of(TYPES), "event_ts": at, "updated_at": self._moment()}

    def _moment(self) -> datetime:
        """Some microsecond of today."""
        start = datetime.combine(self.date, datetime.min.time(), UTC)
        return start + timedelta(microseconds=int(self._chance.integers(86_400_000_000)))

    def _new_item(self) -> dict[str, Any]:
        price = round(float(self._chance.uniform(1, 100)), 2)
        return {"price": price, "region": self._one_of(COUNTRIES), "available": True, "there": True}

    def _live(self, item: dict[str, Any]) -> None:
        """A day in an item's life."""
        if self._happens(0.05):
            item.update(self._new_item())
        item["available"] ^= self._happens(0.05)
        item["there"] = self._happens(0.97 if item["there"] else 0.4)

    def _write_snapshot(self, name: str, key: str, things: dict[str, dict[str, Any]]) -> None:
        rows = [{key: each, **thing} for each, thing in things.items() if thing["there"]]
        pq.write_table(pa.Table.from_pylist(rows).drop_columns(["there"]), self.folder / f"{name}.parquet")

    def _happens(self, share: float) -> bool:
        return bool(self._chance.random() < share)

    def _one_of(self, things: Sequence[Any]) -> Any:  # noqa: ANN401 - one of whatever it is given
        return things[int(self._chance.integers(len(things)))]


def _save_untrained(root: Path, seed: int) -> None:
    """A small LIME-XOR as it is before training: what a night makes does not depend on what a model has learnt."""
    torch.manual_seed(seed)
    config = ModelConfig(width=16, links=4, ffn_width=16, max_history=HISTORY)
    vocabulary, spec = Vocabulary(("i0000",), config.buckets), FeatureSpec((), (Numeric("price", 50.0, 30.0),), TYPES)
    made = datetime(2026, 5, 1, tzinfo=UTC).isoformat()
    save_package(root, Lime(config, vocabulary, spec), vocabulary, spec, {"trained_until": made, "created_at": made})
