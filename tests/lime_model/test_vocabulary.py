import json

import pytest

from lime_model.vocabulary import HASH, Vocabulary, bucket_of
from schemas.errors import ModelArtifactError


def test_only_items_with_two_events_are_kept_in_utf8_order() -> None:
    vocabulary = Vocabulary.build({"b": 2, "a": 9, "once": 1, "ä": 3, "\U0001f600": 2, "\uffff": 2}, 4)
    # U+FFFF sorts before the emoji in UTF-8 bytes, after it in UTF-16
    assert vocabulary.items == ("a", "b", "ä", "\uffff", "\U0001f600")


def test_every_row_is_an_item_a_bucket_or_padding() -> None:
    vocabulary = Vocabulary(("a", "b"), 3)
    assert [vocabulary.row("a"), vocabulary.row("b")] == [1, 2]
    assert all(3 <= vocabulary.row(f"other-{n}") < vocabulary.rows for n in range(50))
    assert vocabulary.rows == 6


def test_the_named_hash_never_changes() -> None:
    assert HASH == "blake2b-64"
    assert [bucket_of(item, 1000) for item in ("a", "b", "ä", "")] == [343, 333, 529, 876]


def test_training_replaces_an_item_by_its_own_bucket_and_leaves_the_rest() -> None:
    vocabulary = Vocabulary(("a", "b"), 3)
    rows = vocabulary.bucket_rows()
    assert rows == [0, vocabulary.bucket_row("a"), vocabulary.bucket_row("b"), 3, 4, 5]


def test_json_round_trip() -> None:
    vocabulary = Vocabulary(("a", "ä"), 3)
    assert Vocabulary.from_json(json.loads(vocabulary.dumps())) == vocabulary


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hash": "md5"}, "md5"),
        ({"items": ["b", "a"]}, "order"),
        ({"items": ["a", "a"]}, "order"),
        ({"items": [1]}, "type"),
        ({"buckets": 0}, "bucket"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_damaged_vocabulary_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelArtifactError, match=message):
        Vocabulary.from_json({"hash": HASH, "buckets": 3, "items": ["a", "b"], **change})
