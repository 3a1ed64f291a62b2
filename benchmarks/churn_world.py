"""A platform of any size whose users act and whose catalogue moves as much as asked from one day to the next.

Raw files as `lime nightly` reads them, a configuration, and a model as it is before training: a night's cost does not
depend on what a model has learnt.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lime_model.config import ModelConfig
from lime_model.features import FeatureSpec, Numeric
from lime_model.model import Lime
from lime_model.package import save_package
from lime_model.vocabulary import Vocabulary

FIRST = date(2026, 6, 1)
EVENTS_EACH = 5  # of every user, before the first night ends
K = 20

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
[items]
format = "parquet"
path = "{folder}/items.parquet"
[items.columns]
item_id = "item_id"
[items.features]
price = {{ column = "price", kind = "numeric" }}
[users]
format = "parquet"
path = "{folder}/users.parquet"
[users.columns]
user_id = "user_id"
[score]
k = {k}
[night]
first_date = {first}
"""

Numbers = npt.NDArray[np.int64]


@dataclass
class World:
    """The platform below one folder, as of the last day that was written."""

    folder: Path
    users: int
    items: int
    day: int = 0

    @property
    def config(self) -> Path:
        return self.folder / "night.toml"

    @property
    def date(self) -> date:
        """The last day."""
        return FIRST + timedelta(days=self.day)

    def begin(self) -> None:
        """The catalogue, everybody's first events, the configuration and a package."""
        (self.folder / "events").mkdir(parents=True)
        self.config.write_text(CONFIG.format(folder=self.folder, k=K, first=FIRST))
        self._prices = np.random.default_rng(0).uniform(1, 100, self.items)
        pq.write_table(pa.table({"user_id": _ids("u", np.arange(self.users))}), self.folder / "users.parquet")
        self._write_items()
        self._write_events(np.repeat(np.arange(self.users), EVENTS_EACH))
        _save_untrained(self.folder / "lake" / "models")

    def move(self, share: float) -> None:
        """The next day: this share of the users act twice, and of the items get another price."""
        self.day += 1
        generator = np.random.default_rng(self.day)
        changed = generator.choice(self.items, round(share * self.items), replace=False)
        self._prices[changed] = generator.uniform(1, 100, len(changed))
        if len(changed):
            self._write_items()
        active = generator.choice(self.users, round(share * self.users), replace=False)
        self._write_events(np.repeat(np.sort(active), 2))

    def _write_items(self) -> None:
        catalogue = {"item_id": _ids("i", np.arange(self.items)), "price": self._prices}
        pq.write_table(pa.table(catalogue), self.folder / "items.parquet")

    def _write_events(self, users: Numbers) -> None:
        """One event a place of `users`, in order of time over the day."""
        count, generator = len(users), np.random.default_rng(1000 + self.day)
        start = int(datetime.combine(self.date, datetime.min.time(), UTC).timestamp() * 1e6)
        moments = start + np.sort(generator.integers(0, 86_400_000_000, count))
        columns = {
            "event_id": pa.array([f"{self.day}-{n}" for n in range(count)], pa.string()),
            "user_id": _ids("u", users),
            "item_id": _ids("i", generator.integers(0, self.items, count)),
            "event_ts": pa.array(moments, pa.timestamp("us", "UTC")),
        }
        pq.write_table(pa.table(columns), self.folder / "events" / f"{self.date}.parquet")


def _ids(letter: str, numbers: Numbers) -> pa.StringArray:
    return pa.array([f"{letter}{n:08d}" for n in numbers.tolist()], pa.string())


def _save_untrained(root: Path) -> None:
    """LIME-XOR with the default MLP head; items are their buckets and their price."""
    torch.manual_seed(0)
    config = ModelConfig(head="mlp")
    vocabulary, spec = Vocabulary(("i",), config.buckets), FeatureSpec((), (Numeric("price", 50.0, 30.0),), ("event",))
    made = datetime(2026, 5, 1, tzinfo=UTC).isoformat()
    save_package(root, Lime(config, vocabulary, spec), vocabulary, spec, {"trained_until": made, "created_at": made})
