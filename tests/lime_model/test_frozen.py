from dataclasses import replace

import pytest
import torch

from lime_model.batches import Events, HistoryBatch
from lime_model.config import HEADS, Head
from lime_model.features import encode_items
from lime_model.frozen import CandidatePredictor, FrozenShapes, Histories, LinkPredictor, numerics_id
from lime_model.loaded import ModelPackage
from schemas.errors import ConfigError, InputError
from tests.lime_model.samples import FEATURES, ITEMS, SPEC, VOCABULARY, chosen_rows, config, histories, package

CPU = torch.device("cpu")
# A real width: at 8 columns no kernel has a remainder to treat otherwise.
REAL = package(config(width=64, links=16, ffn_width=128, max_history=50))
SHAPES = FrozenShapes(rows_per_call=16, length_buckets=(4, 16), items_per_call=32)
LENGTHS = [0, 1, 3, 4, 5, 9, 16, 17, 49, 50, 51, 120, 0, 2, 30, 16, 8, 8, 8, 33] * 3
ALL = histories(LENGTHS)


@pytest.fixture(scope="module")
def links() -> torch.Tensor:
    return LinkPredictor(REAL, SHAPES, CPU).predict(ALL)


def test_every_user_alone_has_the_bits_of_the_batch(links: torch.Tensor) -> None:
    predictor = LinkPredictor(REAL, SHAPES, CPU)
    for row in range(0, len(LENGTHS), 3):
        assert torch.equal(predictor.predict(chosen_rows(ALL, [row]))[0], links[row]), LENGTHS[row]


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_subsets_and_order_change_no_bit(links: torch.Tensor, seed: int) -> None:
    order = torch.randperm(len(LENGTHS), generator=torch.Generator().manual_seed(seed)).tolist()
    for rows in (order, order[:7], order[:33] + order[:5]):
        found = LinkPredictor(REAL, SHAPES, CPU).predict(chosen_rows(ALL, rows))
        assert torch.equal(found, links[rows])


def test_two_threads_give_the_bits_of_one(links: torch.Tensor) -> None:
    torch.set_num_threads(2)
    assert torch.equal(LinkPredictor(REAL, SHAPES, CPU).predict(ALL), links)


@pytest.mark.parametrize("row", [1, 8, 9])
def test_links_equal_a_direct_forward(links: torch.Tensor, row: int) -> None:
    own = chosen_rows(ALL, [row])
    items = encode_items(VOCABULARY, SPEC, own.item_ids, own.features).take(own.codes[None])
    types = SPEC.encode_event_types(own.event_types)[own.type_codes]
    batch = HistoryBatch(items, Events(types[None], own.event_ts[None], torch.tensor([LENGTHS[row]])))
    with torch.inference_mode():
        direct = REAL.model.personalize_links(batch)
    torch.testing.assert_close(direct.flatten(), links[row], rtol=1e-4, atol=1e-5)


def test_of_a_long_history_the_last_n_events_are_read(links: torch.Tensor) -> None:
    row = LENGTHS.index(120)
    own = chosen_rows(ALL, [row])
    last = Histories(
        own.item_ids, own.features, own.event_types, own.codes[-50:], own.type_codes[-50:], own.event_ts[-50:],
        torch.tensor([0, 50]),
    )  # fmt: skip
    assert torch.equal(LinkPredictor(REAL, SHAPES, CPU).predict(last)[0], links[row])


def test_shapes_follow_the_row_alone_never_the_batch() -> None:
    widths: list[tuple[int, int]] = []
    predictor = LinkPredictor(package(), FrozenShapes(rows_per_call=4, length_buckets=(2, 99), items_per_call=8), CPU)
    inner = predictor._model.personalize_links
    predictor._model.personalize_links = lambda b: (widths.append(tuple(b.events.event_ts.shape)), inner(b))[1]  # type: ignore
    predictor.predict(histories([1, 2, 3, 8, 9, 0, 1, 2]))
    assert widths == [(4, 2), (4, 2), (4, 8)]  # N = 8 replaces what is longer


def test_no_history_at_all_is_no_row() -> None:
    none = histories([])
    assert LinkPredictor(package(), SHAPES, CPU).predict(none).shape == (0, 32)
    empty = LinkPredictor(package(), SHAPES, CPU).predict(replace(none, offsets=torch.tensor([0, 0, 0])))
    assert bool(empty.isfinite().all()) and torch.equal(empty[0], empty[1])


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="offsets"):
        LinkPredictor(package(), SHAPES, CPU).predict(replace(histories([2]), offsets=torch.tensor([0, 3])))


@pytest.mark.parametrize("head", HEADS)
def test_an_items_weights_have_the_same_bits_in_any_company(head: Head) -> None:
    made = package(config(head=head, width=64, links=16, mlp_width=48))
    names, texts = [f"x{n}" for n in range(70)] + list(ITEMS), ["{}"] * 70 + list(FEATURES)
    whole = CandidatePredictor(made, SHAPES, CPU).predict(names, texts)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(1))
    for rows in (order, order[:5], order[:40], torch.tensor([81])):
        part = CandidatePredictor(made, SHAPES, CPU).predict([names[i] for i in rows], [texts[i] for i in rows])
        for name in ("A", "G", "w", "b"):
            all_rows, found = getattr(whole, name), getattr(part, name)
            assert (all_rows is None) == (found is None)
            assert all_rows is None or torch.equal(found, all_rows[rows])


def test_weights_equal_a_direct_forward() -> None:
    found = CandidatePredictor(REAL, SHAPES, CPU).predict(ITEMS, FEATURES)
    with torch.inference_mode():
        direct = REAL.model.candidate_weights(encode_items(VOCABULARY, SPEC, ITEMS, FEATURES))
    torch.testing.assert_close(found.A, direct.A, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.b, direct.b, rtol=1e-5, atol=1e-6)


def test_no_items_keep_their_shapes() -> None:
    none = CandidatePredictor(REAL, SHAPES, CPU).predict([], [])
    assert none.A.shape == (0, 2, 16) and none.w is not None and none.w.shape == (0, 64)


def test_the_numerics_id_names_what_decides_the_bits() -> None:
    ids = {numerics_id(s, CPU) for s in (SHAPES, replace(SHAPES, rows_per_call=17), replace(SHAPES, items_per_call=9))}
    assert len(ids) == 3
    assert torch.__version__ in numerics_id(SHAPES, CPU)
    assert "lengths=4-16-50" in LinkPredictor(REAL, SHAPES, CPU).numerics_id


def test_running_out_of_memory_names_the_setting_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(batch: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    made: ModelPackage = package()
    monkeypatch.setattr(made.model, "personalize_links", full)
    monkeypatch.setattr(made.model, "candidate_weights", full)
    with pytest.raises(ConfigError, match="rows_per_call: .*found 16; lower it"):
        LinkPredictor(made, SHAPES, CPU).predict(histories([1]))
    with pytest.raises(ConfigError, match="items_per_call"):
        CandidatePredictor(made, SHAPES, CPU).predict(["a"], ["{}"])


def test_another_failure_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch: object) -> None:
        raise RuntimeError("shapes do not match")

    made = package()
    monkeypatch.setattr(made.model, "personalize_links", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        LinkPredictor(made, SHAPES, CPU).predict(histories([1]))


@pytest.mark.parametrize("buckets", [(8, 4), (0, 4), (4, 4)])
def test_buckets_that_do_not_rise_are_refused(buckets: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="length_buckets"):
        FrozenShapes(rows_per_call=4, length_buckets=buckets, items_per_call=8)


def test_a_predictor_of_another_device_leaves_the_first_one_whole(links: torch.Tensor) -> None:
    """A worker keeps one package; Spark may give its tasks another GPU each time. `meta` holds no numbers at all."""
    first = LinkPredictor(REAL, SHAPES, CPU)
    LinkPredictor(REAL, SHAPES, torch.device("meta"))
    CandidatePredictor(REAL, SHAPES, torch.device("meta"))
    assert torch.equal(first.predict(chosen_rows(ALL, [1]))[0], links[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_agrees_with_the_cpu(links: torch.Tensor) -> None:
    found = LinkPredictor(REAL, SHAPES, torch.device("cuda:0")).predict(ALL)
    torch.testing.assert_close(found, links, rtol=1e-3, atol=1e-4)
