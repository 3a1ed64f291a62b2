"""Nights over hundreds of users and items, each with a random life of its own, against plain references.

Users act, act late, act in the future, send again, correct and withdraw; items change, vanish, return and sell out.
After a night the histories are compared with those of plain Python over all that was ever sent, and every derived
table with a rebuild by the same package from the input versions that the night used (`lime backfill --as-known`).
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.harness import Figure, parser, present, say
from benchmarks.random_world import RandomWorld
from jobs.cli import main as lime
from jobs.lake import Lake
from jobs.session import spark_session
from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.contract import TableContract
from schemas.digest import table_digest
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN

USERS, ITEMS, NIGHTS = 400, 120, 20
DERIVED = (USER_HISTORY, USER_SEEN, LINK_EMBEDDINGS, CANDIDATE_WEIGHTS, RECOMMENDATIONS, SERVING_RECOMMENDATIONS)
OF_A_MODEL = (LINK_EMBEDDINGS, CANDIDATE_WEIGHTS, RECOMMENDATIONS, SERVING_RECOMMENDATIONS)


def random_nights(users: int, items: int, nights: int, seed: int, compared: Collection[int]) -> list[str]:
    """Run the nights; returns what was not as it should be. Those whose number is in `compared` are rebuilt too."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lime-random-") as folder:
        world = RandomWorld(Path(folder).absolute(), users, items, seed)
        lake = Lake(spark_session("benchmark"), f"{folder}/lake")
        for number in range(nights):
            world.move()
            night(world, "nightly")
            found = list(differences(world, lake, rebuild=number in compared))
            say(f"night {number} of seed {seed}: {', '.join(found) or 'as it should be'}")
            wrong += [f"night {number}: {each}" for each in found]
    return wrong


def night(world: RandomWorld, command: str, *more: str) -> None:
    """A command for the world's day; raises RuntimeError where it fails."""
    words = [command, "--config", str(world.config), "--date", str(world.date), *more]
    if code := lime(words):
        raise RuntimeError(f"lime {' '.join(words)}: expected exit code 0, found {code}")


def differences(world: RandomWorld, lake: Lake, rebuild: bool) -> Iterator[str]:
    """What is wrong in the lake after the world's day."""
    yield from _wrong_histories(world, lake)
    models = {model for table in OF_A_MODEL for model in _models(lake, table)}
    if len(models) != 1:
        yield f"expected one model in all tables, found {sorted(models)}"
    before = lake.head(SERVING_RECOMMENDATIONS)
    night(world, "nightly")
    if lake.head(SERVING_RECOMMENDATIONS) != before:
        yield "the same night again wrote again"
    if rebuild:
        own = Lake(lake.spark, f"{world.folder}/rebuilt-{world.date}")
        night(world, "backfill", "--as-known", "--into", own.root)
        night(world, "publish", "--lake", own.root)
        for table in DERIVED:
            if table_digest(lake.read(table), table) != table_digest(own.read(table), table):
                yield f"{table.name} is not what a rebuild makes"


def _wrong_histories(world: RandomWorld, lake: Lake) -> Iterator[str]:
    """Histories against plain Python's; nothing of the cut-off or later may be in them."""
    cutoff = datetime.combine(world.date + timedelta(days=1), datetime.min.time(), UTC)
    rows = lake.read(USER_HISTORY).select("user_id", "item_ids", "event_types").collect()
    found = {row["user_id"]: [*zip(row["item_ids"], row["event_types"], strict=True)] for row in rows}
    expected = world.histories(cutoff)
    for user in sorted(found.keys() | expected.keys()):
        if found.get(user) != expected.get(user):
            yield f"history of {user}: expected {expected.get(user)}, found {found.get(user)}"


def _models(lake: Lake, table: TableContract) -> set[str]:
    return {row["model_digest"] for row in lake.read(table).select("model_digest").distinct().collect()}


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    arguments = parser("random_nights", "Random nights, compared with plain Python and with a rebuild.")
    arguments.add_argument("--nights", type=int, default=NIGHTS, metavar="N", help=f"how many (default: {NIGHTS})")
    arguments.add_argument("--seed", type=int, default=1, metavar="N", help="of everything random (default: 1)")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; the exit code is 1 where something was not as it should be."""
    args = arg_parser().parse_args(argv)
    logging.getLogger("lime").setLevel(logging.WARNING)
    nights = 2 if args.quick else args.nights
    wrong = random_nights(USERS, ITEMS, nights, args.seed, range(nights))
    lives = Figure("random lives of users and items", float(USERS + ITEMS))
    present(f"{nights} random nights", [lives, Figure("differences", float(len(wrong)), "", 0.0)], args.json)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
