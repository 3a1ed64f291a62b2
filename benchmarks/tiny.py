"""A tiny platform on disk: users who walk through their cluster's items in order, so that a model can learn it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTERS, ITEMS_EACH, USERS, DAYS = 4, 8, 40, 10


def write_platform(folder: Path) -> Path:
    """Events (one TSV a day), catalogue, users and night.toml below `folder`; returns the TOML file."""
    (folder / "events").mkdir(parents=True)
    for day in range(DAYS):
        write_day(folder, day)
    write_items(folder)
    users = [f"u{n}\t{20 + n}" for n in range(USERS + 3)]  # the last three never do anything
    (folder / "users.tsv").write_text("\n".join(["user\tage", *users]) + "\n")
    config = folder / "night.toml"
    config.write_text(CONFIG.replace("FOLDER", str(folder)))
    return config


def write_day(folder: Path, day: int, extra: tuple[str, ...] = ()) -> None:
    """One day's events: a third of the users act, in file order within one second."""
    date = START + timedelta(days=day)
    lines = ["user\titem\tkind\tat\tline"]
    for user in range(day % 3, USERS, 3):
        for step in range(2):
            item = f"c{user % CLUSTERS}i{(user + day // 3 * 2 + step) % ITEMS_EACH}"
            kind = "view" if step else "like"
            lines.append(f"u{user}\t{item}\t{kind}\t{int(date.timestamp()) + user}\t{day * 1000 + len(lines)}")
    (folder / "events" / f"{date:%Y-%m-%d}.tsv").write_text("\n".join([*lines, *extra]) + "\n")


def write_items(folder: Path, gone: str = "", renamed: str = "") -> None:
    """The catalogue; one item may have left it, one may have other features."""
    rows = ["item\tname\tgenre\tyear"]
    for cluster in range(CLUSTERS):
        for number in range(ITEMS_EACH):
            item = f"c{cluster}i{number}"
            genre = "other" if item == renamed else f"g{cluster} all"
            if item != gone:
                rows.append(f"{item}\tTitle {item}\t{genre}\t{1990 + number}")
    (folder / "items.tsv").write_text("\n".join(rows) + "\n")


CONFIG = """
[lake]
root = "FOLDER/lake"

[events]
format = "tsv"
path = "FOLDER/events/{date}.tsv"
ts_format = "epoch_seconds"
[events.columns]
user_id = "user"
item_id = "item"
event_ts = "at"
event_type = "kind"
sequence = "line"
[events.types]
like = "liked"
view = "viewed"

[items]
format = "tsv"
path = "FOLDER/items.tsv"
[items.columns]
item_id = "item"
title = "name"
[items.features]
genres = { column = "genre", separator = " " }
year = { column = "year", kind = "numeric" }

[users]
format = "tsv"
path = "FOLDER/users.tsv"
[users.columns]
user_id = "user"
[users.attributes]
age = "age"

[model]
width = 16
links = 4
ffn_width = 16
max_history = 4
dropout = 0.0

[train]
steps = 60
validate_every = 20
checkpoint_every = 20
learning_rate = 0.02
blocks_per_step = 16
cuts_per_block = 4

[embed]
rows_per_call = 8
length_buckets = [2]
items_per_call = 16

[score]
k = 5
reserve = 3

[publish]
min_overlap = 0.0

[night]
first_date = 2026-01-06
last_date = 2026-01-10
"""
