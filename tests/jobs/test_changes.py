"""The rules of change over hundreds of random sequences of nights, without Spark, against everything made anew.

Moments are few and often a cut-off's own, so that every boundary is met. A failure names its seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from jobs.changes import (
    Watermark,
    had_ended,
    happened,
    holds,
    holds_until,
    is_held_back,
    is_let_go,
    is_since,
)
from jobs.commits import Commit

SEQUENCES, NIGHTS, LENGTH = 400, 12, 3
BEGINNING, FIRST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
USERS, ITEMS = ("u1", "u2", "u3", "u4", "u5"), ("a", "b", "c", "d")


class Event(NamedTuple):
    user: str
    item: str
    at: datetime


class Interval(NamedTuple):
    opens: datetime
    ends: datetime | None
    features: int
    available: bool


History = tuple[tuple[str, int | None, datetime], ...]
"""(item, its features then, time), the newest last."""


@dataclass
class Tables:
    """What a version of `events` and `items` holds."""

    events: dict[int, Event] = field(default_factory=dict)
    items: dict[str, list[Interval]] = field(default_factory=dict)


@dataclass
class World:
    """A source that sends late, corrects and withdraws; nights at rising, equal or falling cut-offs."""

    chance: Random
    cutoff: datetime = FIRST
    versions: list[Tables] = field(default_factory=lambda: [Tables()])

    @property
    def now(self) -> Tables:
        return self.versions[-1]

    @property
    def watermark(self) -> Watermark:
        version = len(self.versions) - 1
        return Watermark(version, version, self.cutoff, LENGTH)

    def move(self) -> None:
        """On to the next night, or to the same one, or back to the one before; with new versions of both tables."""
        self.cutoff = max(FIRST, self.cutoff + timedelta(days=self.chance.choice((-1, 0, 1, 1, 1, 2))))
        tables = Tables(dict(self.now.events), {item: list(known) for item, known in self.now.items.items()})
        for _ in range(self.chance.randrange(4)):
            tables.events[len(tables.events)] = self._event()
        if tables.events and self.chance.random() < 0.3:
            tables.events[self.chance.choice([*tables.events])] = self._event()
        if tables.events and self.chance.random() < 0.1:
            tables.events[self.chance.choice([*tables.events])] = Event("nobody", "a", FIRST)  # a withdrawal
        if self.chance.random() < 0.5:
            self._change(tables.items.setdefault(self.chance.choice(ITEMS), []))
        self.versions.append(tables)

    def _event(self) -> Event:
        """Maybe late, maybe of the next days."""
        return Event(self.chance.choice(USERS), self.chance.choice(ITEMS), self._moment())

    def _change(self, known: list[Interval]) -> None:
        """A snapshot closes the open interval, opens one or both; or the past is corrected."""
        new = Interval(BEGINNING, None, self.chance.randrange(9), self.chance.random() < 0.7)
        if known and self.chance.random() < 0.25:
            place = self.chance.randrange(len(known))
            known[place] = known[place]._replace(features=new.features)
            return
        at = self._moment()
        if known and known[-1].ends is None:
            if known[-1].opens >= at:
                return
            known[-1] = known[-1]._replace(ends=at)
        if not known or self.chance.random() < 0.7:
            opens = BEGINNING if not known else max(at, known[-1].ends or at)
            known.append(new._replace(opens=opens))

    def _moment(self) -> datetime:
        """A quarter of some day around the cut-off: a cut-off's own moment every fourth time."""
        return self.cutoff + timedelta(hours=6 * self.chance.randrange(-16, 9))


def sequences() -> Iterator[tuple[int, World]]:
    """A seed and the world that it makes."""
    for seed in range(SEQUENCES):
        yield seed, World(Random(seed))


def histories(tables: Tables, cutoff: datetime) -> dict[str, History]:
    """As the build makes them, by the rules."""
    found: dict[str, History] = {}
    for user in USERS:
        before = [e for e in tables.events.values() if e.user == user and happened(e.at, cutoff)]
        newest = sorted(before, key=lambda e: (e.at, e.item))[-LENGTH:]
        found[user] = tuple((e.item, _features(tables.items.get(e.item, []), e.at), e.at) for e in newest)
    return found


def _features(known: list[Interval], at: datetime) -> int | None:
    (*found,) = (i.features for i in known if holds(i.opens, i.ends or at, i.ends is None, at))
    assert len(found) <= 1
    return found[0] if found else None


def plain_histories(tables: Tables, cutoff: datetime) -> dict[str, History]:
    """The reference, without the rules: the last events before the cut-off, each beside what held at its time."""
    found: dict[str, History] = {}
    for user in USERS:
        own = sorted((e.at, e.item) for e in tables.events.values() if e.user == user and e.at < cutoff)
        held: list[tuple[str, int | None, datetime]] = []
        for at, item in own[-LENGTH:]:
            opened = [i for i in tables.items.get(item, []) if i.opens <= at]
            there = bool(opened) and (opened[-1].ends is None or at < opened[-1].ends)
            held.append((item, opened[-1].features if there else None, at))
        found[user] = tuple(held)
    return found


def touched(last: Watermark, now: Watermark, versions: list[Tables], built: dict[str, History]) -> set[str]:
    """As the build finds them: by events since the last cut-off, changed rows, corrected intervals."""
    then, tables = versions[last.events], versions[now.events]
    known = [e for e in tables.events.values() if happened(e.at, now.cutoff)]
    users = {e.user for e in known if is_since(e.at, last.cutoff)}
    for version, after in zip(versions[last.events : now.events], versions[last.events + 1 :], strict=True):
        images = set(version.events.items()) ^ set(after.events.items())
        users |= {event.user for _, event in images}
    corrected = _told(then, last.cutoff) ^ _told(tables, last.cutoff)
    items = {item for item, *_ in corrected}
    return users | {user for user, history in built.items() if items & {item for item, *_ in history}}


def _told(tables: Tables, cutoff: datetime) -> set[tuple[str, datetime, datetime | None, int]]:
    """What the intervals say of the time before the cut-off."""
    return {
        (item, i.opens, i.ends if i.ends and had_ended(i.ends, cutoff) else None, i.features)
        for item, known in tables.items.items()
        for i in known
        if happened(i.opens, cutoff)
    }


def test_histories_of_touched_users_alone_equal_all_of_them_made_anew() -> None:
    spared = anew = 0
    for seed, world in sequences():
        last, built = world.watermark, histories(world.now, world.cutoff)
        for night in range(NIGHTS):
            for _ in range(world.chance.choice((1, 1, 2))):  # some versions no night has read
                world.move()
            now, fresh = world.watermark, histories(world.now, world.cutoff)
            users = touched(last, now, world.versions, built) if last.leads_to(now) else set(USERS)
            anew += not last.leads_to(now)
            spared += sum(user not in users for user in USERS)
            built = {user: fresh[user] if user in users else built[user] for user in USERS}
            expected = plain_histories(world.now, world.cutoff)
            assert built == expected, f"seed {seed}, night {night} at {world.cutoff:%d %b}: touched {sorted(users)}"
            last = now
    nights = SEQUENCES * NIGHTS
    assert 0.1 * nights < anew < 0.5 * nights, f"{anew} of {nights} nights from the beginning"
    assert spared > nights, f"{spared} histories left as they were"


def test_every_pair_that_becomes_eligible_is_met_again() -> None:
    """A list that is merged meets: all of a user whose row changed, changed items, items that the window let go."""
    met = 0
    for seed, world in sequences():
        window = timedelta(days=world.chance.choice((1, 2, 3)))
        then, before = world.cutoff, world.now
        for night in range(NIGHTS):
            world.move()
            now, tables = world.cutoff, world.now
            merged = then <= now  # else all lists are made in full
            for user in USERS if merged else ():
                seen_then, seen_now = (_seen(t, user, c) for t, c in ((before, then), (tables, now)))
                let_go = {i for i, at in seen_now.items() if is_let_go(at, then - window, now - window)}
                assert let_go == {i for i, at in seen_now.items() if then <= at + window < now}, f"seed {seed}"
                for item in ITEMS if seen_then == seen_now else ():
                    state, state_now = _state(before, item, then), _state(tables, item, now)
                    was = state is not None and state.available and not _held(seen_then, item, then - window)
                    can = state_now is not None and state_now.available and not _held(seen_now, item, now - window)
                    found = state != state_now or item in let_go
                    met += can and not was
                    assert found or was or not can, f"seed {seed}, night {night}: {user} may get {item} again"
            then, before = now, tables
    assert met > SEQUENCES, f"{met} pairs became eligible"


def _seen(tables: Tables, user: str, cutoff: datetime) -> dict[str, datetime]:
    """When the user last had each item."""
    own = sorted((e.at, e.item) for e in tables.events.values() if e.user == user and happened(e.at, cutoff))
    return {item: at for at, item in own}


def _state(tables: Tables, item: str, cutoff: datetime) -> Interval | None:
    """What is known of an item at the cut-off, by the rule and by the plain reference."""
    known = tables.items.get(item, [])
    (*found,) = (i for i in known if holds_until(i.opens, i.ends or cutoff, i.ends is None, cutoff))
    instant = cutoff - timedelta(microseconds=1)
    assert found == [i for i in known if i.opens <= instant and (i.ends is None or instant < i.ends)]
    return found[0]._replace(opens=BEGINNING, ends=None) if found else None


def _held(seen: dict[str, datetime], item: str, since: datetime) -> bool:
    return item in seen and bool(is_held_back(seen[item], since))


def test_a_watermark_comes_back_from_its_commit() -> None:
    mark = Watermark(3, 5, FIRST, LENGTH)
    assert Watermark.of(Commit(9, {"inputs": mark.stamp})) == mark
    assert not mark.leads_to(Watermark(4, 5, FIRST, LENGTH + 1))
