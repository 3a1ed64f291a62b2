"""Which candidates each class of users may get tonight: one bitset a class, in one plain file that tasks map.

Layout: `[classes, groups * 2]` uint8 with groups = 4 * ceil(C / 64); bit i (little-endian) of byte j of a row is
candidate 8 j + i in position order, and the bits after the last candidate are 0. The file's name holds a digest of
its content.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.config import ScoreConfig
from jobs.rules import UserClasses, keeps, with_item_values
from schemas.errors import EmptyTableError, InputError

Bits = npt.NDArray[np.uint8]

_GROUP_BYTES, _GROUPS = 2, 4  # a group is 16 candidates; groups come in fours, 64 candidates
_ONES = np.array([byte.bit_count() for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class ClassCounts:
    """What a class may get, and what took the rest: each candidate counts once, at the first reason that holds.

    The reasons in order: not available on the date, then the rules in the order they are declared.
    """

    candidates: int
    unavailable: int
    removed: tuple[tuple[str, int], ...]  # rule, items
    eligible: int
    digest: str  # of the class's bits and of the filters' settings


@dataclass(frozen=True)
class Eligibility:
    """The file of bitsets, and what its rows hold."""

    file: Path
    classes: tuple[ClassCounts, ...]


def collect_flags(
    candidates: DataFrame, items: DataFrame, taken: DataFrame, classes: UserClasses
) -> pa.Table:
    """One row a candidate in position order: `available`, `score` (its popularity), a flag a distinct predicate.

    `candidates`, `items` (as of the night) and `taken` are unique by item_id. Collects a float and a few flags a
    candidate, as Arrow; what the flags are made of stays in Spark. Raises EmptyTableError where nothing is available,
    InputError where an available item is no candidate: it would silently be on nobody's list.
    """
    known = items.select("item_id", "available", "attributes", "features")
    weighed = candidates.select("item_id", F.lit(True).alias("weighed"))
    joined = known.join(weighed, on=["item_id"], how="full_outer").join(taken, on=["item_id"], how="left")
    flags = {name: column for name, column in _predicates(classes).items() if column is not None}
    judged = with_item_values(joined, classes.rules).select(
        "item_id",
        F.coalesce("available", F.lit(False)).alias("available"),
        F.coalesce("weighed", F.lit(False)).alias("weighed"),
        F.coalesce("events", F.lit(0)).cast("float").alias("score"),
        *[column.alias(name) for name, column in flags.items()],
    )
    found = judged.where("available or weighed").orderBy("item_id").drop("item_id").toArrow()
    rows = found.filter(found.column("weighed")).drop_columns(["weighed"])
    if rows.num_rows < found.num_rows:
        raise InputError(
            f"candidate_weights: expected weights of every available item, found none of "
            f"{found.num_rows - rows.num_rows} items; run `lime weigh-candidates`"
        )
    if not rows.num_rows or not rows.column("available").to_numpy().any():
        raise EmptyTableError("candidate_weights: expected available items with weights, found none")
    return rows


def write_masks(flags: pa.Table, classes: UserClasses, settings: str, folder: Path) -> Eligibility:
    """The rows of `collect_flags` as the file of bitsets in `folder`, and the counts of each class.

    `settings` is `filter_settings`. Holds one bit a candidate and predicate, and one row of the file at a time.
    """
    whole, counts = sha256(), []
    unnamed = folder / "eligible.unfinished"
    with unnamed.open("wb") as file:
        for bits, class_counts in _class_bits(flags, classes, settings):
            whole.update(bits.tobytes())
            file.write(bits.tobytes())
            counts.append(class_counts)
    return Eligibility(unnamed.rename(folder / f"eligible-{whole.hexdigest()[:16]}.bits"), tuple(counts))


def filter_settings(config: ScoreConfig, item_ids: str) -> str:
    """What a class's bits mean: the filters' settings and the digest of the candidates' ids in position order."""
    rules = [asdict(rule) for rule in config.rules]
    denied = asdict(config.denied) if config.denied else None
    seen = {"types": sorted(config.seen_types), "days": config.seen_days}
    return json.dumps({"rules": rules, "denied": denied, "seen": seen, "items": item_ids}, sort_keys=True)


def map_masks(file: str, classes: int) -> Bits:
    """[classes, groups * 2], one copy a host: copy-on-write, because torch warns of memory it may not write to."""
    return np.memmap(file, dtype=np.uint8, mode="c").reshape(classes, -1)


def chosen(bits: Bits, positions: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each position's bit is set in one row of the masks."""
    found: npt.NDArray[np.bool_] = (bits[positions >> 3] >> (positions & 7).astype(np.uint8)) & 1 == 1
    return found


def _predicates(classes: UserClasses) -> dict[str, Column | None]:
    """Each distinct (rule, reduced value) of the classes once: what it keeps, None where that is everything."""
    wanted = sorted({(n, value) for found in classes.found for n, value in enumerate(found)})
    rules = list(zip(classes.rules, classes.domains, strict=True))
    return {_flag(n, reduced): keeps(*rules[n], reduced, F.col(f"item_value_{n}")) for n, reduced in wanted}


def _flag(rule: int, reduced: int) -> str:
    return f"rule_{rule}_{reduced}"


def _class_bits(flags: pa.Table, classes: UserClasses, settings: str) -> Iterator[tuple[Bits, ClassCounts]]:
    """Each class's row of the file, in order."""
    packed = {name: _packed(flags.column(name)) for name in flags.column_names if name != "score"}
    available = packed["available"]
    count, there = flags.num_rows, _count(available)
    for found in classes.found:
        bits, left, removed = available, there, []
        for n, (rule, reduced) in enumerate(zip(classes.rules, found, strict=True)):
            # a predicate without a column keeps everything
            kept = packed.get(_flag(n, reduced))
            bits = bits if kept is None else bits & kept
            removed.append((rule.label, left - _count(bits)))
            left = _count(bits)
        digest = sha256(bits.tobytes() + settings.encode()).hexdigest()[:16]
        yield bits, ClassCounts(count, count - there, tuple(removed), left, digest)


def _packed(flags: pa.ChunkedArray) -> Bits:
    """Booleans -> one row of the file; the padding is 0."""
    bits = np.packbits(flags.to_numpy(), bitorder="little")
    groups = _GROUPS * -(-len(flags) // (_GROUPS * _GROUP_BYTES * 8))
    row = np.zeros(groups * _GROUP_BYTES, np.uint8)
    row[: len(bits)] = bits
    return row


def _count(bits: Bits) -> int:
    return int(_ONES[bits].sum(dtype=np.int64))
