"""Training windows from Parquet through petastorm: the only module that imports it.

Order: petastorm's `dummy` pool reads in the caller's thread, one row group after another in the order of
the URLs given, so two reads of one snapshot give the same windows in the same order; all shuffling is the
trainer's, seeded. The URLs are those of the snapshot's live files (`df.inputFiles()`): petastorm ignores
the Delta log.

A window set is held in memory, 24 bytes an event and one copy of each distinct item version. The bound is
stated in events and checked while reading, so a set that is too large stops early instead of swapping.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from lime_model.windows import Window, WindowBuilder, WindowSet
from schemas.errors import EmptyTableError, InputError


@contextmanager
def _quiet_petastorm() -> Iterator[None]:
    """petastorm 0.12 uses parts of pyarrow that are deprecated but there in pyarrow 14: exactly these warnings go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm(\.|$)")
        yield


with _quiet_petastorm():
    from petastorm import TransformSpec, make_batch_reader
    from petastorm.unischema import UnischemaField

# It takes every table that it did not write itself for an unfinished one, and says so.
logging.getLogger("petastorm").setLevel(logging.ERROR)

MAX_EVENTS = 100_000_000
COLUMNS = ("user_id", "item_ids", "features", "event_types", "event_ts", "targets_from", "is_last")

SEPARATOR = "\x1f"  # no id holds a control character (refused at ingest), and JSON escapes them


def read_windows(urls: Sequence[str], width: int) -> WindowSet:
    """Live Parquet files of `training_sequences`, windows of at most `width` events -> WindowSet.

    Raises EmptyTableError without files, InputError for a set beyond MAX_EVENTS or a window beyond `width`.
    """
    if not urls:
        raise EmptyTableError("training_sequences: expected files with windows, found none")
    builder = WindowBuilder()
    options = {"schema_fields": list(COLUMNS), "transform_spec": _padded(width), "num_epochs": 1}
    fixed_order = {"reader_pool_type": "dummy", "shuffle_row_groups": False}
    with _quiet_petastorm(), make_batch_reader(sorted(urls), **options, **fixed_order) as reader:
        for batch in reader:
            for row in range(len(batch.user_id)):
                builder.add(_window(batch, row))
            if builder.events > MAX_EVENTS:
                raise InputError(f"training_sequences: expected at most {MAX_EVENTS} events, found more")
    return builder.build()


def _padded(width: int) -> TransformSpec:
    """Ragged lists -> what petastorm can batch: times padded to `width`, each list of strings as one string."""

    def pad(rows: pd.DataFrame) -> pd.DataFrame:
        length = rows["event_ts"].map(len)
        if len(rows) and int(length.max()) > width:
            raise InputError(f"training_sequences: expected windows of {width} events, found one of {length.max()}")
        padded = [np.pad(np.asarray(ts, np.int64), (0, width - len(ts))) for ts in rows["event_ts"]]
        strings = {name: rows[name].map(SEPARATOR.join) for name in ("item_ids", "features", "event_types")}
        return rows.assign(event_ts=padded, length=length.astype(np.int32), **strings)

    texts = [UnischemaField(name, np.str_, (), None, False) for name in ("item_ids", "features", "event_types")]
    numbers = [
        UnischemaField("event_ts", np.int64, (width,), None, False),
        UnischemaField("length", np.int32, (), None, False),
    ]
    return TransformSpec(pad, edit_fields=[*texts, *numbers], selected_fields=[*COLUMNS, "length"])


def _window(batch: Any, row: int) -> Window:
    """One row of a petastorm batch."""
    items, features, types = (getattr(batch, n)[row].split(SEPARATOR) for n in ("item_ids", "features", "event_types"))
    times = batch.event_ts[row][: batch.length[row]].tolist()
    targets_from, is_last = int(batch.targets_from[row]), bool(batch.is_last[row])
    return Window(str(batch.user_id[row]), items, features, types, times, targets_from, is_last)
