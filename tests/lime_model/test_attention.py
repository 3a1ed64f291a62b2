import torch

from lime_model.encoders.link_layer import AgeBias, LinkLayer, SharedDropout, shifted_rows
from lime_model.model import Lime
from tests.lime_model.reference import age_bias, dense_layer
from tests.lime_model.samples import SPEC, VOCABULARY, config, lime

MODEL = lime(config())
LAYER = MODEL.encoder.layers[0]


def test_a_layer_equals_the_dense_masked_attention_on_both_sides() -> None:
    assert isinstance(LAYER, LinkLayer)
    torch.manual_seed(1)
    links, history, times = torch.randn(4, 8), torch.randn(5, 8), [7, 400, 90_000, 90_000, 5_000_000]
    ages = MODEL.encoder.ages(torch.tensor([times]) * 1_000_000, torch.tensor([[5]]))
    bias = age_bias(MODEL, LAYER, [second * 1_000_000 for second in times])
    expected = dense_layer(LAYER, torch.cat([links, history]), 4, bias)
    found_links = LAYER.update_links(links[None, :, None], history[None], ages)[0, :, 0]
    found_history = LAYER.update_history(history[None], links[None])[0]
    torch.testing.assert_close(found_links, expected[:4], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_history, expected[4:], rtol=1e-5, atol=1e-5)


def test_a_link_that_sees_no_event_gets_no_attention_output() -> None:
    assert isinstance(LAYER, LinkLayer)
    links = torch.randn(4, 8)
    ages = MODEL.encoder.ages(torch.zeros(1, 5, dtype=torch.int64), torch.tensor([[0]]))
    found = LAYER.update_links(links[None, :, None], torch.randn(1, 5, 8), ages)[0, :, 0]
    alone = links + LAYER.ffn_out(torch.relu(LAYER.ffn_in(LAYER.ffn_norm(links))))
    torch.testing.assert_close(found, alone)


def test_a_shifted_read_has_the_gradient_of_plain_slices() -> None:
    rows, starts = torch.randn(3, 10, dtype=torch.float64, requires_grad=True), torch.tensor([0, 6, 2, 6])
    found = shifted_rows(rows, starts, 4)
    assert torch.equal(found, torch.stack([rows[:, start : start + 4] for start in starts.tolist()], dim=1))
    assert torch.autograd.gradcheck(lambda values: shifted_rows(values, starts, 4), (rows,))


def test_a_shifted_read_of_a_long_row_holds_no_more_than_it_reads() -> None:
    rows = torch.arange(400_000.0)[None]
    found = shifted_rows(rows, torch.tensor([150_000, 7]), 200_000)  # all windows of the row would be 160 GB
    assert found[0, :, [0, -1]].tolist() == [[150_000.0, 349_999.0], [7.0, 200_006.0]]


def test_a_link_starts_by_taking_the_mean_of_what_it_attends_to() -> None:
    layer, states = LinkLayer(config()), torch.randn(1, 5, 8)
    ages = MODEL.encoder.ages(torch.zeros(1, 5, dtype=torch.int64), torch.tensor([[5, 3]]))
    links = torch.randn(1, 4, 2, 8)
    weights = layer.attention(links, states, ages)  # [1, H, L, Q, N]
    expected = torch.cat([weights[0, head] @ states[0, :, 4 * head : 4 * head + 4] for head in range(2)], dim=-1)
    torch.testing.assert_close(layer.attended(links, states, ages)[0], expected)


def test_raw_links_start_short_and_a_dot_head_as_a_similarity() -> None:
    model = Lime(config(), VOCABULARY, SPEC)
    assert float(model.encoder.links.detach().abs().max()) < 0.6  # a tenth of standard normal numbers
    torch.testing.assert_close(model.fold().sum(0), torch.eye(8))


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
