import torch

from lime_model.encoders.link_layer import AgeBias, LinkLayer, SharedDropout
from tests.lime_model.reference import dense_layer
from tests.lime_model.samples import config, lime

MODEL = lime(config())
LAYER = MODEL.encoder.layers[0]


def test_a_layer_equals_the_dense_masked_attention_on_both_sides() -> None:
    assert isinstance(LAYER, LinkLayer)
    torch.manual_seed(1)
    links, history = torch.randn(4, 8), torch.randn(5, 8)
    indicators = torch.zeros(1, len(MODEL.encoder.indicators.rank_bounds) + len(MODEL.time_bounds) + 3, 1, 5)
    for event, row in enumerate((4, 3, 2, 1, 0)):
        indicators[0, row, 0, event] = 1.0
    expected = dense_layer(LAYER, torch.cat([links, history]), 4, LAYER.ages(indicators)[0, :, :, 0])
    found_links = LAYER.update_links(links[None, :, None], history[None], indicators)[0, :, 0]
    found_history = LAYER.update_history(history[None], links[None])[0]
    torch.testing.assert_close(found_links, expected[:4], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_history, expected[4:], rtol=1e-5, atol=1e-5)


def test_a_link_that_sees_no_event_gets_no_attention_output() -> None:
    assert isinstance(LAYER, LinkLayer)
    links = torch.randn(4, 8)
    indicators = torch.zeros(1, len(MODEL.encoder.indicators.rank_bounds) + len(MODEL.time_bounds) + 3, 1, 5)
    indicators[0, -1] = 1.0
    found = LAYER.update_links(links[None, :, None], torch.randn(1, 5, 8), indicators)[0, :, 0]
    alone = links + LAYER.ffn_out(torch.relu(LAYER.ffn_in(LAYER.ffn_norm(links))))
    torch.testing.assert_close(found, alone)


def test_links_start_between_the_last_event_only_and_all_alike() -> None:
    ages = AgeBias(config())
    start = torch.softmax(ages.rank[0], dim=-1)
    assert bool(start[0, 0] > 0.95)
    assert torch.equal(ages.rank[0, -1], torch.zeros_like(ages.rank[0, -1]))
    assert bool((ages.rank[0, :-1].diff(dim=-1) < 0).all())


def test_a_single_link_starts_by_seeing_all_alike() -> None:
    assert not AgeBias(config(links=1)).rank.any()


def test_dropout_draws_one_mask_for_all_links_and_only_in_training() -> None:
    dropout, states = SharedDropout(0.5), torch.ones(2, 3, 4, 50)
    assert torch.equal(dropout.eval()(states), states)
    dropped = dropout.train()(states)
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped[:, 0], dropped[:, 2])
