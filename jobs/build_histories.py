"""`events`, `items` -> `user_history`, `user_seen`. Grain: one user. Rewrites only touched users.

Touched are the users of event rows added or changed since the version that the last build pinned, of events
between the last cut-off and tonight's, and of past item intervals that were corrected. The watermark (events
and items version, cut-off, history length) is kept in the commit of `user_history` itself.
"""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.changes import Watermark, had_ended, happened, is_since
from jobs.histories import as_histories, as_seen
from jobs.rewrite import in_buckets, replace_users
from jobs.stage import Night, StageReport, job_parser, run_alone, timestamp
from schemas.contract import TableContract
from schemas.events import EVENTS
from schemas.items import ITEMS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN

STAGE = "build_histories"


def run(night: Night) -> StageReport:
    """Bring both tables to the night's cut-off."""
    before, items, watermark = _inputs(night)
    touched = _touched(night, before, watermark)
    if touched is not None:
        touched = night.lake.stage(touched, f"{night.run_id}/touched")
        if touched.isEmpty():
            return StageReport()
        before = before.join(touched, on=["user_id"], how="left_semi")  # `touched` is unique
    history = as_histories(before, items, night.config.model.max_history).withColumn("run_id", F.lit(night.run_id))
    seen = as_seen(before).withColumn("run_id", F.lit(night.run_id))
    # user_seen first: the watermark lives in user_history, so a kill in between repeats both.
    _replace(night, USER_SEEN, seen, touched, {})
    written = _replace(night, USER_HISTORY, history, touched, watermark.stamp)
    rows_in = written if touched is None else touched.count()
    return StageReport(rows_in=rows_in, rows_out=written)


def touched_users(night: Night) -> DataFrame | None:
    """The users whom the build would touch, by what is in the tables now, once each; None: everybody."""
    before, _, watermark = _inputs(night)
    return _touched(night, before, watermark)


def _inputs(night: Night) -> tuple[DataFrame, DataFrame, Watermark]:
    """Events before the cut-off, items, and the watermark that they make."""
    lake = night.lake
    events, items = lake.read(EVENTS), lake.read(ITEMS)
    length = night.config.model.max_history
    watermark = Watermark(lake.reads["events"], lake.reads["items"], night.cutoff, length)
    return events.where(happened(F.col("event_ts"), timestamp(night.cutoff))), items, watermark


def _touched(night: Night, before: DataFrame, now: Watermark) -> DataFrame | None:
    """Users whose rows must be made again, once each; None: everybody."""
    commit = night.lake.last_commit(USER_HISTORY, STAGE)
    last = Watermark.of(commit) if commit and night.lake.exists(USER_SEEN) else None
    if last is None or not last.leads_to(now):
        return None
    users = before.where(is_since(F.col("event_ts"), timestamp(last.cutoff))).select("user_id")
    if last.events != now.events:
        users = users.union(night.lake.changes(EVENTS, last.events, now.events).select("user_id"))
    if last.items != now.items:
        users = users.union(_users_of_corrected_items(night, last))
    return users.distinct()


def _users_of_corrected_items(night: Night, last: Watermark) -> DataFrame:
    """Users whose history holds an item whose intervals before the last cut-off are not what they were.

    Intervals that opened or closed since then touch candidates, and only events that are touched anyway.
    """
    then = _intervals_before(night.lake.read(ITEMS, last.items), last.cutoff)
    now = _intervals_before(night.lake.read(ITEMS), last.cutoff)
    changed = then.exceptAll(now).union(now.exceptAll(then)).select("item_id").distinct()
    held = night.lake.read(USER_HISTORY).select("user_id", F.explode("item_ids").alias("item_id"))
    return held.join(F.broadcast(changed), on=["item_id"], how="left_semi").select("user_id")


def _intervals_before(items: DataFrame, cutoff: datetime) -> DataFrame:
    """What the item intervals said of the time before `cutoff`."""
    cut = timestamp(cutoff)
    ended = F.when(had_ended(F.col("valid_to"), cut), F.col("valid_to"))
    return items.where(happened(F.col("valid_from"), cut)).select(
        "item_id", "valid_from", ended.alias("valid_to"), "features"
    )


def _replace(
    night: Night,
    table: TableContract,
    fresh: DataFrame,
    touched: DataFrame | None,
    watermark: dict[str, object],
) -> int:
    """Write the fresh rows in one commit; returns their number."""
    staged = night.lake.stage(fresh, f"{night.run_id}/{table.name}")
    written = staged.count()
    stamp = night.stamp(STAGE, **watermark)
    if touched is None:
        night.lake.overwrite(table, staged, stamp)
        return written
    where = in_buckets(touched)
    rows = replace_users(night.lake.read(table).where(where), touched, table.check(staged))
    night.lake.overwrite(table, rows, stamp, where)
    return written


def main(argv: list[str] | None = None) -> int:
    """`lime build-histories`."""
    args = job_parser(STAGE, "Bring user_history and user_seen to the night's cut-off.").parse_args(argv)
    return run_alone(args, STAGE, run)
