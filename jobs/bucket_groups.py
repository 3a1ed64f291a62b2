"""Long stages in groups of buckets, one Spark job a group: what an interrupted run finished is not computed again.

A finished group lies in the staging folder, named by what it is made from; the stage commits once, from all of them.
"""

import json
from collections.abc import Callable
from hashlib import sha256

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.stage import Night
from schemas.types import USER_BUCKETS

FOLDER = "groups"
"""Below the staging folder; `lime maintain` sweeps what no run came back for."""


def group_count(work: float, work_per_group: float) -> int:
    """How many groups so much work is cut into: one where the night is small, a bucket each at most."""
    return max(1, min(USER_BUCKETS, -int(-work // work_per_group)))


def inputs_digest(night: Night, *others: object) -> str:
    """Of all that the stage has read, its date and configuration, and whatever else decides its rows."""
    described = [dict(night.lake.reads), night.logical_date.isoformat(), night.config.hash, *others]
    return sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:32]


def staged_groups(
    night: Night, name: str, groups: int, make: Callable[[Column], DataFrame]
) -> DataFrame:
    """Rows of all groups; `make` gets a condition on `user_bucket`. `name` holds the inputs' digest."""
    frames = []
    for group in range(groups):
        mine = F.pmod(F.col("user_bucket"), F.lit(groups)) == group
        frames.append(night.lake.stage_once(make(mine), f"{FOLDER}/{name}/{group}-of-{groups}"))
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.unionByName(frame)
    return whole
