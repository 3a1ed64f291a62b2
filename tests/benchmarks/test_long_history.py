import json
from pathlib import Path

from benchmarks.long_history import PER_TOPIC, PLANTED, main, planted


def test_only_what_is_early_tells_the_topic_of_the_last_event() -> None:
    source = planted(30, 400)
    assert source.lengths.tolist() == [400] * 30
    for user in range(30):
        span = slice(400 * user, 400 * (user + 1))
        topics = [int(source.item_ids[code][1:]) // PER_TOPIC for code in source.codes[span].tolist()]
        liked = [source.event_types[t] == "liked" for t in source.types[span].tolist()]
        assert [topic == topics[-1] for topic in topics] == liked
        assert sum(liked[:50]) == 400 * PLANTED
        assert not any(liked[50:-1])
    assert int(source.trained().sum()) == 15  # the last event of every other user
    assert source.is_last.tolist() == [False, True] * 15


def test_a_quick_run_measures_both_models_and_draws_them(tmp_path: Path) -> None:
    out, picture = tmp_path / "f.json", tmp_path / "long.svg"
    assert main(["--quick", "--json", str(out), "--picture", str(picture)]) == 0
    found = {figure["claim"]: figure["value"] for figure in json.loads(out.read_text())["figures"]}
    assert found["mha over xor seconds 64"] > 0
    assert all(0 <= found[f"{kind} hr@10 64"] <= 1 for kind in ("lime-xor", "lime-mha"))
    assert ">lime-mha<" in picture.read_text()
