import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ir_measures
import pytest
import torch
from ir_measures import Qrel, ScoredDoc, Success, nDCG

from benchmarks import accuracy
from benchmarks.accuracy import last_ranks, main
from benchmarks.bootstrap import paired_interval
from benchmarks.contenders import MODELS, contender, read_settings
from benchmarks.interactions import Interactions, from_file, movielens_100k
from benchmarks.rankers import as_histories, item_knn, popularity, training_windows
from lime_model.config import ModelConfig, TrainConfig
from lime_model.validation import ranking_metrics
from schemas.errors import InputError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models that train in a second, on one thread; other tests compare bits of models that they train themselves."""
    for name, model in MODELS.items():
        memory = {"memory_slots": 16, "memory_reads": 2} if model.memory_slots else {}
        sizes = {"width": 8, "links": min(4, model.links), "ffn_width": 8, "buckets": 4, "max_history": 8, **memory}
        monkeypatch.setitem(MODELS, name, replace(model, **sizes))
    short = TrainConfig(steps=6, validate_every=3, blocks_per_step=4, cuts_per_block=4)
    monkeypatch.setattr(accuracy, "QUICK", short)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ring(path: Path, timed: bool) -> Path:
    """Ten users who walk around a ring of twelve items."""
    rows = []
    for user in range(10):
        for step in range(9):
            rows.append(f"u{user} i{(user + step) % 12}" + (f" {1000 + step}" if timed else ""))
    path.write_text("\n".join(rows) + "\n")
    return path


def data(lines: str, tmp_path: Path) -> Interactions:
    (tmp_path / "lines.txt").write_text(lines)
    return from_file(tmp_path / "lines.txt")


def test_events_of_one_second_keep_the_order_of_their_lines(tmp_path: Path) -> None:
    found = data("u z 5\nu a 5\nu b 4\nv a 9\n", tmp_path)
    assert [event.item_id for event in found.users["u"]] == ["b", "z", "a"]
    assert found.timed and found.items == ["a", "b", "z"]


def test_lines_without_times_are_in_order_and_may_be_gzipped(tmp_path: Path) -> None:
    (tmp_path / "d.gz").write_bytes(gzip.compress(b"u z\nu a\nv b\n"))
    found = from_file(tmp_path / "d.gz")
    assert [event.item_id for event in found.users["u"]] == ["z", "a"] and not found.timed


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("u a\nu\n", "line 2: expected 2 fields"),
        ("u a 1\n\nu b noon\n", "line 3: expected a timestamp in seconds, found 'noon'"),
        ("u a 1\nu b\n", "line 2: expected 3 fields"),
        ("u a 1 x\n", "line 1: expected 2 or 3 fields"),
        ("u a nan\n", "line 1: expected a timestamp"),
        ("", "found none"),
    ],
)
def test_a_wrong_file_says_which_line_and_why(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        data(lines, tmp_path)


def test_the_program_says_it_too_and_exits_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.txt").write_text("only-one-field\n")
    assert main(["--data", str(tmp_path / "d.txt")]) == 5
    assert "line 1" in capsys.readouterr().out
    assert main(["--data", str(tmp_path / "missing.txt")]) == 5


def test_the_split_is_train_validation_test(tmp_path: Path) -> None:
    found = data("u a\nu b\nu c\nu d\nshort a\nshort b\n", tmp_path)
    assert [event.item_id for event in found.training("u")] == ["a", "b"]
    assert [event.item_id for event in found.training("short")] == ["a", "b"]  # too short to be split
    assert list(found.tested()) == ["u"]
    windows = training_windows(found, ModelConfig(max_history=8))
    trained = [windows.item_ids[code] for code in windows.codes[windows.trained()].tolist()]
    assert sorted(trained) == ["a", "a", "b", "b"]  # never c, the validation event, nor d
    assert "d" not in windows.item_ids


def test_the_validation_event_is_in_the_test_history(tmp_path: Path) -> None:
    found = data("u a\nu b\nu c\n", tmp_path)
    held = as_histories(found, [events[:-1] for events in found.tested().values()])
    assert [held.item_ids[code] for code in held.codes.tolist()] == ["a", "b"]


def test_ranks_leave_out_the_history_unless_told_to_keep_it(tmp_path: Path) -> None:
    found = data("u a\nu b\nu c\n", tmp_path)

    def score(block: slice) -> torch.Tensor:
        return torch.tensor([[9.0, 8.0, 7.0]])[block]

    assert last_ranks(found, score, keep_seen=False).tolist() == [1]
    assert last_ranks(found, score, keep_seen=True).tolist() == [3]


def test_metrics_are_those_of_an_outside_evaluator() -> None:
    ranks = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(5))
    qrels = [Qrel(f"u{user}", "target", 1) for user in range(200)]
    run = [
        ScoredDoc(f"u{user}", "target" if place == rank else f"other {place}", -float(place))
        for user, rank in enumerate(ranks.tolist())
        for place in range(1, 31)
    ]
    theirs, ours = ir_measures.calc_aggregate([nDCG @ 10, Success @ 10], qrels, run), ranking_metrics(ranks)
    assert ours.ndcg10 == pytest.approx(theirs[nDCG @ 10], abs=1e-6)
    assert ours.hr10 == pytest.approx(theirs[Success @ 10], abs=1e-6)


def test_popularity_counts_training_events_only(tmp_path: Path) -> None:
    found = data("u a\nu b\nu b\nv a\nv c\nv c\n", tmp_path)
    assert popularity(found)(slice(0, 9)).tolist() == [[2.0, 0.0, 0.0]] * 2


def test_item_knn_is_the_sum_of_cosines_with_the_last_ten_items(tmp_path: Path) -> None:
    lines = [f"w{n} x{n % 7}\nw{n} x{n % 5}" for n in range(30)] + [f"u x{n % 6}" for n in range(15)]
    found = data("\n".join(lines) + "\n", tmp_path)
    place = {item: i for i, item in enumerate(found.items)}
    bought = torch.zeros(len(found.users), len(place))
    for row, user in enumerate(found.users):
        for event in found.training(user):
            bought[row, place[event.item_id]] = 1
    normed = bought / bought.norm(dim=0).clamp(min=1)
    recent = [place[event.item_id] for event in found.users["u"][:-1][-10:]]
    expected = (normed.T @ normed)[:, recent].sum(1)
    torch.testing.assert_close(item_knn(found)(slice(0, 1))[0], expected)


@pytest.mark.parametrize("timed", [True, False])
def test_a_quick_run_prints_a_table_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], timed: bool
) -> None:
    file = ring(tmp_path / "ring.txt", timed)
    picture, out = tmp_path / "a.svg", tmp_path / "out" / "f.json"
    assert main(["--quick", "--data", str(file), "--json", str(out), "--picture", str(picture)]) == 0
    assert all(f">{name}<" in picture.read_text() for name in MODELS)
    written = json.loads(out.read_text())
    claims = {figure["claim"]: figure for figure in written["figures"]}
    names = [*MODELS, "popularity", "item-knn"]
    assert {f"{name} {measure}" for name in names for measure in ("ndcg@10", "hr@10")} <= set(claims)
    assert {f"lime-xor less {name}" for name in names if name != "lime-xor"} <= set(claims)
    assert all(-1 <= figure["value"] <= 1 for figure in claims.values() if figure["unit"] == "")
    assert all("target" in figure for figure in claims.values())
    assert written["machine"]["cores"] >= 1
    assert "lime-xor ndcg@10" in capsys.readouterr().out


def test_models_and_a_number_of_seeds_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = ring(tmp_path / "ring.txt", True), tmp_path / "f.json"
    short = replace(TrainConfig(), steps=2, validate_every=2)
    monkeypatch.setattr(accuracy, "TrainConfig", lambda: short)
    assert main(["--data", str(file), "--seeds", "2", "--model", "lime-xor", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert all(figure["claim"].startswith("lime-xor") for figure in figures)
    assert len(figures[0]["spread"]["seeds"]) == 2
    assert main(["--data", str(file), "--model", "popularity", "--model", "item-knn", "--json", str(out)]) == 0
    claims = [figure["claim"] for figure in json.loads(out.read_text())["figures"]]
    assert claims == ["popularity ndcg@10", "popularity hr@10", "item-knn ndcg@10", "item-knn hr@10"]


def test_a_finished_seed_is_taken_from_the_state_and_another_setting_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out, state = ring(tmp_path / "ring.txt", True), tmp_path / "f.json", tmp_path / "state"
    command = ["--quick", "--data", str(file), "--model", "sasrec", "--json", str(out), "--state", str(state)]
    assert main(command) == 0
    first = json.loads(out.read_text())["figures"]
    assert main(command) == 0
    assert json.loads(out.read_text())["figures"] == first
    assert "sasrec, seed 1: taken from" in capsys.readouterr().out
    (kept,) = state.rglob("1-*.json")
    kept.write_text('{"ndcg10": 0.1}')  # as an older version would have it
    assert main(command) != 0
    refused = capsys.readouterr().out
    assert str(kept) in refused
    assert "expected a run of this version" in refused
    (tmp_path / "s.toml").write_text("[sasrec.train]\nlearning_rate = 0.1\n")
    assert main([*command, "--settings", str(tmp_path / "s.toml")]) == 0
    assert "taken from" not in capsys.readouterr().out


def test_settings_of_one_model_go_over_those_of_all(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("[all.model]\nmax_history = 9\nlayers = 1\n[hstu.model]\nlayers = 3\n")
    settings = read_settings(tmp_path / "s.toml")
    found = {name: contender(name, TrainConfig(), settings)[0] for name in ("hstu", "sasrec")}
    assert [(model.max_history, model.layers) for model in found.values()] == [(9, 3), (9, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bert.train]\nsteps = 1\n", "expected tables of all, lime-xor, .*; found bert"),
        ("[all]\nsteps = 1\n", r"expected \[all.model\] or \[all.train\], found all = "),
        ("[all.train]\nsteps = 0\n", "TrainConfig.steps: expected at least 1, found 0"),
        ("[all.train]\nepochs = 1\n", "TrainConfig: expected keys among .*'epochs'"),
        ("steps", "expected a TOML file"),
    ],
)
def test_wrong_settings_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "s.toml").write_text(text)
    file = ring(tmp_path / "ring.txt", True)
    assert main(["--data", str(file), "--model", "sasrec", "--settings", str(tmp_path / "s.toml")]) == 5
    assert re.search(message, capsys.readouterr().out)


def test_an_interval_of_paired_differences_shrinks_with_users_and_holds_the_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    ours = torch.rand(4000, generator=generator, dtype=torch.float64)
    theirs = ours - 0.1 + 0.2 * torch.randn(4000, generator=generator, dtype=torch.float64)
    mean, low, high = paired_interval(ours, theirs)
    expected = 1.96 * float((ours - theirs).std()) / 4000**0.5
    assert low < mean < high
    assert high - low == pytest.approx(2 * expected, rel=0.1)
    assert low > 0.08
    # the same rows four times over are no more users
    again, users = [x.repeat(4) for x in (ours, theirs)], torch.arange(4000).repeat(4)
    assert paired_interval(*again, users)[1:] == pytest.approx((low, high), abs=2e-3)
    assert paired_interval(*again)[2] - paired_interval(*again)[1] == pytest.approx((high - low) / 2, rel=0.1)


def test_a_file_in_which_nobody_can_be_tested_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("u a\nu b\n")
    assert main(["--data", str(tmp_path / "d.txt")]) == 5


def test_every_rating_is_an_event_and_its_value_the_type(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.inter").write_text("header\n1\t7\t2\t50\n1\t8\t3\t40\n1\t9\t5\t60\n")
    (tmp_path / "ml-100k.item").write_text(
        "header\n7\tOne\t1995\tDrama Comedy\n8\tTwo\tunkonwn\tunknown\n9\tThree\t\tWar\n10\tNever rated\t1990\tWar\n"
    )
    found = movielens_100k(tmp_path)
    assert [(e.item_id, e.event_type) for e in found.users["1"]] == [
        ("8", "neutral"),
        ("7", "disliked"),
        ("9", "liked"),
    ]
    assert found.features == {
        "7": '{"genres": ["Comedy", "Drama"], "release_year": 1995.0}',
        "8": "{}",
        "9": '{"genres": ["War"]}',
    }
