import pytest
import torch

from lime_model.batches import HistoryBatch
from lime_model.config import HEADS, Head
from lime_model.features import encode_items
from lime_model.model import Lime
from schemas.errors import ConfigError
from tests.lime_model.reference import pair_score, personalized_links
from tests.lime_model.samples import FEATURES, ITEMS, SPEC, VOCABULARY, config, history_batch, lime

ITEM_INPUTS = encode_items(VOCABULARY, SPEC, ITEMS, FEATURES)
LENGTHS = [0, 1, 2, 7, 8, 5]


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("use_times", [True, False])
def test_links_equal_the_plain_reference(layers: int, use_times: bool) -> None:
    model, batch = lime(config(layers=layers, use_times=use_times)), history_batch(LENGTHS, 8)
    found = model.personalize_links(batch)
    for row, length in enumerate(LENGTHS):
        expected = personalized_links(model, batch, row, length)
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_cut_of_a_shared_pass_equals_its_prefix_alone(layers: int) -> None:
    model, batch = lime(config(layers=layers)), history_batch([20, 13], 20)
    cuts = torch.tensor([[0, 1, 5, 8, 9, 20], [13, 0, 2, 7, 8, 12]])
    shared = model.links_at_cuts(model.tower(batch.items), batch.events, cuts)
    for row in range(2):
        for q, cut in enumerate(cuts[row].tolist()):
            expected = personalized_links(model, batch, row, cut)
            torch.testing.assert_close(shared[row, q], expected, rtol=1e-4, atol=1e-5)


def test_a_cut_out_of_a_long_window_equals_the_same_last_n_events() -> None:
    model, batch = lime(config(max_history=8)), history_batch([20], 20)
    cut = 15
    last = slice(cut - 8, cut)
    items = batch.items.take(torch.arange(1))
    own = HistoryBatch(
        type(items)(*(t[:, last] for t in vars(items).values())),
        type(batch.events)(batch.events.event_type[:, last], batch.events.event_ts[:, last], torch.tensor([8])),
    )
    shared = model.links_at_cuts(model.tower(batch.items), batch.events, torch.tensor([[cut]]))
    torch.testing.assert_close(shared[:, 0], model.personalize_links(own), rtol=1e-5, atol=1e-6)


def test_what_stands_in_the_padding_is_never_read() -> None:
    model = lime(config())
    one, other = history_batch([3], 8, seed=1), history_batch([3], 8, seed=2)
    for mixed, source in ((other.items.ids, one.items.ids), (other.events.event_ts, one.events.event_ts)):
        mixed[:, :3] = source[:, :3]
    for name in ("categorical", "numeric", "missing"):
        getattr(other.items, name)[:, :3] = getattr(one.items, name)[:, :3]
    other.events.event_type[:, :3] = one.events.event_type[:, :3]
    torch.testing.assert_close(model.personalize_links(one), model.personalize_links(other), rtol=0, atol=0)


def test_an_empty_history_has_finite_links_and_the_same_for_everybody() -> None:
    P = lime(config()).personalize_links(history_batch([0, 0, 4], 8))
    assert bool(P.isfinite().all())
    assert torch.equal(P[0], P[1])
    assert not torch.allclose(P[0], P[2])


def test_times_move_links_only_where_the_model_uses_them() -> None:
    batch = history_batch([6], 8)
    late = HistoryBatch(batch.items, type(batch.events)(
        batch.events.event_type, batch.events.event_ts * 50, batch.events.length
    ))  # fmt: skip
    for use_times in (True, False):
        model = lime(config(use_times=use_times))
        assert torch.equal(model.personalize_links(batch), model.personalize_links(late)) is not use_times


def test_attention_over_links_sums_to_one_per_head() -> None:
    A = lime(config()).candidate_weights(ITEM_INPUTS).A
    assert A.shape == (12, 2, 4)
    torch.testing.assert_close(A.sum(-1), torch.ones(12, 2))


@pytest.mark.parametrize("head", HEADS)
def test_the_folded_score_equals_the_unfolded_model(head: Head) -> None:
    model, batch = lime(config(head=head)), history_batch(LENGTHS, 8)
    P, weights = model.personalize_links(batch), model.candidate_weights(ITEM_INPUTS)
    found, vectors = model.score_all(P, weights), model.tower(ITEM_INPUTS)
    for u in range(len(LENGTHS)):
        for c in range(len(ITEMS)):
            torch.testing.assert_close(found[u, c], pair_score(model, P[u], vectors[c]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_the_cached_form_is_act_of_a_times_t_plus_g(head: Head) -> None:
    model, batch = lime(config(head=head)), history_batch(LENGTHS, 8)
    P, weights = model.personalize_links(batch), model.candidate_weights(ITEM_INPUTS)
    g, w = model.constants()
    T = torch.einsum("uld,hdf->uhlf", P, model.fold())
    hidden = torch.einsum("chl,uhlf->ucf", weights.A, T) + (weights.G if weights.G is not None else g)
    hidden = torch.relu(hidden) if head == "mlp" else hidden
    expected = (hidden * (weights.w if weights.w is not None else w)).sum(-1) + weights.b
    torch.testing.assert_close(model.score_all(P, weights), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("head", "own"), [("dot", (False, True)), ("mlp", (True, False)), ("linear", (False, False))])
def test_what_is_constant_over_items_is_kept_once(head: Head, own: tuple[bool, bool]) -> None:
    weights = lime(config(head=head)).candidate_weights(ITEM_INPUTS)
    assert (weights.G is not None, weights.w is not None) == own


def test_candidate_weights_depend_on_no_user() -> None:
    model = lime(config())
    before = model.candidate_weights(ITEM_INPUTS)
    model.personalize_links(history_batch([8, 3], 8))
    assert torch.equal(before.A, model.candidate_weights(ITEM_INPUTS).A)


def test_a_vocabulary_with_other_buckets_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 5 buckets"):
        Lime(config(buckets=5), VOCABULARY, SPEC)


def test_every_parameter_learns_from_a_next_event() -> None:
    model, batch = lime(config(head="mlp")), history_batch([8, 5], 8)
    scores = model.score_all(model.personalize_links(batch), model.candidate_weights(ITEM_INPUTS))
    scores.logsumexp(1).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # layer 2 updates no history: nothing there reads it, and a link's own projections still learn
    assert without == []
