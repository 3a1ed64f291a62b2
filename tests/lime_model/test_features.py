import json

import pytest
import torch

from lime_model.features import Categorical, FeatureSpec, Numeric, encode_items, parse_features
from lime_model.vocabulary import Vocabulary
from schemas.errors import InputError, ModelArtifactError

SPEC = FeatureSpec(
    (Categorical("genres", ("Comedy", "Drama", "War"), 2), Categorical("studio", ("x",), 1)),
    (Numeric("year", 1990.0, 10.0),),
    ("like", "view"),
)
VOCABULARY = Vocabulary(("a", "b"), 2)


@pytest.mark.parametrize(
    ("features", "slots"),
    [
        ({"genres": ["Drama", "Comedy"], "studio": "x"}, [1, 2, 4]),  # order of the list does not matter
        ({"genres": ["War", "Drama", "Comedy"]}, [1, 2, 0]),  # more values than slots
        ({"genres": "War"}, [3, 0, 0]),  # one string is a list of one
        ({"genres": ["Western"], "studio": None}, [0, 0, 0]),  # never seen: like missing
        ({}, [0, 0, 0]),
    ],
)
def test_categorical_values_fill_fixed_slots(features: dict[str, object], slots: list[int]) -> None:
    assert SPEC.categorical_rows(features) == slots


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"year": 2000}, ([1.0], [0.0])),
        ({}, ([0.0], [1.0])),
        ({"year": None}, ([0.0], [1.0])),
        ({"year": True}, ([0.0], [1.0])),
        ({"year": "2000"}, ([0.0], [1.0])),
    ],
)
def test_numbers_are_standardised_and_missing_ones_marked(
    features: dict[str, object], expected: tuple[list[float], list[float]]
) -> None:
    assert SPEC.numeric_values(features) == expected


def test_items_are_encoded_row_by_row() -> None:
    items = encode_items(VOCABULARY, SPEC, ["b", "new", "b"], ['{"year":1980}', "{}", '{"genres":["War"]}'])
    assert items.ids.tolist() == [2, VOCABULARY.bucket_row("new"), 2]
    assert items.categorical.tolist() == [[0, 0, 0], [0, 0, 0], [3, 0, 0]]
    assert items.numeric.tolist() == [[-1.0], [0.0], [0.0]]
    assert items.missing.tolist() == [[0.0], [1.0], [1.0]]


def test_no_items_and_no_features_keep_their_shapes() -> None:
    none = encode_items(VOCABULARY, SPEC, [], [])
    assert none.categorical.shape == (0, 3)
    bare = encode_items(VOCABULARY, FeatureSpec(), ["a"], ["{}"])
    assert (bare.categorical.shape, bare.numeric.shape) == ((1, 0), (1, 0))


def test_an_event_type_never_seen_is_unknown() -> None:
    assert torch.equal(SPEC.encode_event_types(["view", "share", "like"]), torch.tensor([2, 0, 1]))


@pytest.mark.parametrize("text", ["", "[1]", "{", "null"])
def test_features_that_are_no_json_object_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="JSON object"):
        parse_features(text)


def test_json_round_trip() -> None:
    assert FeatureSpec.from_json(json.loads(SPEC.dumps())) == SPEC


@pytest.mark.parametrize(
    "damage",
    [
        {"numeric": [{"name": "year", "mean": 0.0, "std": 0.0}]},
        {"categorical": [{"name": "genres", "values": ["a", "a"], "slots": 1}]},
        {"categorical": [{"name": "genres", "values": ["a"], "slots": 0}]},
        {"categorical": [{"name": "genres"}]},
        {"numeric": None},
    ],
)
def test_a_damaged_spec_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ModelArtifactError, match="feature_spec.json"):
        FeatureSpec.from_json({**json.loads(SPEC.dumps()), **damage})
