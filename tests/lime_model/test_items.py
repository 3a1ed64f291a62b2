import torch

from lime_model.batches import ItemInputs
from lime_model.features import encode_items
from lime_model.items import replace_ids
from tests.lime_model.samples import FEATURES, ITEMS, SPEC, VOCABULARY, config, lime

INPUTS = encode_items(VOCABULARY, SPEC, ITEMS, FEATURES)


def test_a_vector_is_id_plus_values_plus_numbers() -> None:
    tower = lime(config()).tower
    assert tower.numeric is not None and tower.missing is not None
    for row in range(len(ITEMS)):
        expected = tower.ids.weight[INPUTS.ids[row]] + tower.values.weight[INPUTS.categorical[row]].sum(0)
        expected = expected + tower.numeric.weight @ INPUTS.numeric[row] + tower.missing.weight @ INPUTS.missing[row]
        torch.testing.assert_close(tower(INPUTS)[row], expected)


def test_padding_adds_nothing() -> None:
    tower = lime(config()).tower
    none = ItemInputs(torch.tensor([0]), torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 1), torch.zeros(1, 1))
    assert not tower(none).any()


def test_items_outside_the_vocabulary_share_their_bucket_and_keep_their_features() -> None:
    unknown = [f"new-{n}" for n in range(40)]
    same = encode_items(VOCABULARY, SPEC, unknown, ["{}"] * 40)
    assert set(same.ids.tolist()) == {VOCABULARY.bucket_row(item) for item in unknown}
    assert len(lime(config()).tower(same).unique(dim=0)) == 4


def test_replaced_ids_fall_to_their_bucket_in_every_place_alike() -> None:
    buckets = torch.tensor(VOCABULARY.bucket_rows())
    replaced = torch.zeros(VOCABULARY.rows, dtype=torch.bool)
    replaced[3] = True
    twice = INPUTS.take(torch.tensor([[2, 4], [2, 2]]))
    found = replace_ids(twice, replaced, buckets).ids
    assert found.tolist() == [[buckets[3], 5], [buckets[3], buckets[3]]]
