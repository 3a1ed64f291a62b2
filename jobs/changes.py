"""The rules by which a night finds what changed since an earlier one: about moments and watermarks, nothing else.

Rules about rows use comparisons, `&` and `|` only, so that they take Spark columns as well as plain values: stages
build their queries of them, and tests ask them about hundreds of random sequences of nights without Spark.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobs.commits import Commit

Value = Any  # a Spark column or one row's value; the answers are columns or bools accordingly


@dataclass(frozen=True)
class Watermark:
    """How far a build of histories got: versions of its inputs, its cut-off, and events that a history keeps."""

    events: int
    items: int
    cutoff: datetime
    history_length: int

    @staticmethod
    def of(commit: Commit) -> "Watermark":
        """The one that a commit was stamped with."""
        kept = {name: str(value) for name, value in commit.inputs.items()}
        cutoff = datetime.fromisoformat(kept["cutoff"]).astimezone(UTC)
        return Watermark(int(kept["events"]), int(kept["items"]), cutoff, int(kept["history_length"]))

    @property
    def stamp(self) -> dict[str, object]:
        """The form that a commit keeps."""
        return {**vars(self), "cutoff": self.cutoff.isoformat()}

    def leads_to(self, now: "Watermark") -> bool:
        """Whether touched users are all that a build up to `now` must make; else it makes everybody."""
        return self.history_length == now.history_length and self.cutoff <= now.cutoff


def happened(at: Value, cutoff: Value) -> Value:
    """Whether a night with this cut-off knows of an event or the opening of an interval at that time."""
    return at < cutoff


def is_since(event_ts: Value, last_cutoff: Value) -> Value:
    """Whether a night that knows of an event does so as the first one after the last cut-off."""
    return event_ts >= last_cutoff


def had_ended(valid_to: Value, cutoff: Value) -> Value:
    """Whether the end of an interval says anything of the time before the cut-off."""
    return valid_to < cutoff


def holds(valid_from: Value, valid_to: Value, is_open: Value, moment: Value) -> Value:
    """Whether a moment lies in the interval [valid_from, valid_to), or [valid_from, ...) where it is open."""
    return (moment >= valid_from) & (is_open | (moment < valid_to))


def holds_until(valid_from: Value, valid_to: Value, is_open: Value, cutoff: Value) -> Value:
    """Whether the last instant before the cut-off lies in the interval."""
    return (valid_from < cutoff) & (is_open | (valid_to >= cutoff))


def is_held_back(last_ts: Value, since: Value) -> Value:
    """Whether the seen filter whose window opens at `since` holds back an item last seen then."""
    return last_ts >= since


def is_let_go(last_ts: Value, since_then: Value, since: Value) -> Value:
    """Whether a window that opened at `since_then` held back what one that opens at `since` holds back no more."""
    return (last_ts >= since_then) & (last_ts < since)
