import pytest

from benchmarks.contest import Contestant, Run, compete, middle, ratios, spread_of


def counting(step: float) -> Run:
    """A contestant whose n-th call takes n * step."""
    calls = 0

    def run() -> dict[str, float]:
        nonlocal calls
        calls += 1
        print("noise on standard output")  # noqa: T201 - what a library may do
        return {"seconds": calls * step}

    return run


def broken() -> Run:
    """A contestant that does not come to its first call."""
    raise ValueError("not today")


HERE = f"{__name__}:counting"


def test_the_first_call_is_discarded_and_ratios_are_round_by_round() -> None:
    fast, slow = (Contestant(name, HERE, {"step": step}) for name, step in (("fast", 1.0), ("slow", 3.0)))
    results = compete([fast, slow], 3)
    assert [call["seconds"] for call in results["fast"]] == [2.0, 3.0, 4.0]
    assert middle(results, "slow") == 9.0
    assert ratios(results, "fast", "slow") == [3.0, 3.0, 3.0]
    assert ratios(results, "fast", "slow", (1.0, 2.0)) == [1.5, 1.5, 1.5]
    assert spread_of([1.0, 2.0]) == {"min": 1.0, "max": 2.0, "rounds": 2}


def test_a_contestant_that_ends_is_named() -> None:
    with pytest.raises(RuntimeError, match="contestant late: expected the figures"):
        compete([Contestant("late", f"{__name__}:broken")], 1)
