"""The frozen item vocabulary: items with at least two training events; every other id falls to a hashed
bucket."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import ModelArtifactError

HASH = "blake2b-64"
MIN_EVENTS = 2
PADDING = 0


def bucket_of(item_id: str, buckets: int) -> int:
    """The named hash `blake2b-64`: first 8 bytes of BLAKE2b over the UTF-8 id, big endian, modulo the buckets."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "big") % buckets


@dataclass(frozen=True)
class Vocabulary:
    """Item ids to embedding rows: 0 is padding, then the items in UTF-8 byte order, then the buckets."""

    items: tuple[str, ...]
    buckets: int
    _rows: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if any(a.encode() >= b.encode() for a, b in zip(self.items, self.items[1:], strict=False)):
            raise ModelArtifactError(
                "vocabulary.json: expected distinct items in UTF-8 byte order, found another order"
            )
        if self.buckets < 1:
            raise ModelArtifactError(f"vocabulary.json: expected at least 1 bucket, found {self.buckets}")
        object.__setattr__(self, "_rows", {item: row for row, item in enumerate(self.items, start=1)})

    @classmethod
    def build(cls, counts: Mapping[str, int], buckets: int) -> "Vocabulary":
        """From the number of training events of each item."""
        kept = (item for item, count in counts.items() if count >= MIN_EVENTS)
        return cls(tuple(sorted(kept, key=str.encode)), buckets)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    @property
    def rows(self) -> int:
        """Rows of the id embedding, padding included."""
        return 1 + len(self.items) + self.buckets

    def bucket_row(self, item_id: str) -> int:
        return 1 + len(self.items) + bucket_of(item_id, self.buckets)

    def row(self, item_id: str) -> int:
        return self._rows.get(item_id) or self.bucket_row(item_id)

    def bucket_rows(self) -> list[int]:
        """For each embedding row the row of its bucket: what training replaces an id by. Buckets stay themselves."""
        own = range(1 + len(self.items), self.rows)
        return [PADDING, *(self.bucket_row(item) for item in self.items), *own]

    def to_json(self) -> dict[str, Any]:
        return {"hash": HASH, "buckets": self.buckets, "items": list(self.items)}

    def dumps(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Vocabulary":
        if set(values) != {"hash", "buckets", "items"}:
            raise ModelArtifactError(f"vocabulary.json: expected hash, buckets, items, found {sorted(values)}")
        if values["hash"] != HASH:
            raise ModelArtifactError(f"vocabulary.json: expected hash {HASH}, found {values['hash']}")
        return cls(tuple(_strings(values["items"])), int(values["buckets"]))


def _strings(values: Iterable[object]) -> list[str]:
    found = list(values)
    if not all(isinstance(value, str) for value in found):
        raise ModelArtifactError("vocabulary.json: expected item ids that are strings, found another type")
    return [str(value) for value in found]
