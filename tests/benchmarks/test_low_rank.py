import json
from pathlib import Path

import pytest
import torch

from benchmarks import low_rank
from benchmarks.low_rank import link_attention, main, spectrum_of
from lime_model.config import TrainConfig
from tests.lime_model.samples import config, history_batch, lime


def test_a_matrix_of_known_rank_needs_as_many_directions() -> None:
    basis, _ = torch.linalg.qr(torch.randn(40, 12, generator=torch.Generator().manual_seed(1)))
    basis = basis - basis.mean(0)
    left, _ = torch.linalg.qr(basis)
    right, _ = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(2)))
    three = (left[:, :3] @ right[:3])[None] + 5.0  # equal singular values; what all candidates share is not counted
    found = spectrum_of([three, torch.rand(1, 40, 1)])
    assert found.needed == 3.0
    assert found.shares[:3] == pytest.approx([1 / 3, 2 / 3, 1.0], abs=1e-5)
    assert found.longest == 9


def test_links_attend_as_in_the_layer_and_a_product_with_them_has_at_most_their_rank() -> None:
    model, batch = lime(config()), history_batch([7], 7)
    tokens = model.tokens(model.tower(batch.items), batch.events)
    links = link_attention(model, tokens, batch.events.event_ts, batch.events.length[:, None])
    torch.testing.assert_close(links.sum(-1), torch.ones(2, 4))
    weights = torch.softmax(torch.randn(30, 4, generator=torch.Generator().manual_seed(3)), -1)
    assert int(torch.linalg.matrix_rank(weights @ links[0])) <= 4
    # the encoder's own answer, from these weights
    layer, before, history, _ = model.encoder.before_last(tokens, batch.events.event_ts, batch.events.length[:, None])
    value = layer.value(layer.norm(history))[0]
    heads = torch.cat([links[h] @ value[:, 4 * h : 4 * h + 4] for h in range(2)], dim=1)
    after = before[0, :, 0] + layer.out(heads)
    after = after + layer.ffn_out(torch.relu(layer.ffn_in(layer.ffn_norm(after))))
    torch.testing.assert_close(model.encoder.norm(after), model.personalize_links(batch)[0], rtol=1e-4, atol=1e-5)


def test_a_quick_run_compares_both_models_and_draws_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = TrainConfig(steps=4, validate_every=2, blocks_per_step=4, cuts_per_block=4)
    monkeypatch.setattr(low_rank, "QUICK", short)
    lines = [f"u{user} i{(user + step) % 12}" for user in range(10) for step in range(9)]
    (tmp_path / "ring.txt").write_text("\n".join(lines))
    out, picture = tmp_path / "f.json", tmp_path / "low_rank.svg"
    command = ["--quick", "--data", str(tmp_path / "ring.txt"), "--json", str(out), "--picture", str(picture)]
    assert main(command) == 0
    found = {figure["claim"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    assert 1 <= found["lime-xor directions for 90% of the variance"] <= 8
    assert 1 <= found["transformer directions for 90% of the variance"] <= 8
    assert ">transformer<" in picture.read_text()
