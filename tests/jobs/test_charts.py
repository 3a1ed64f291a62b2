"""Pictures: small, of the page's colours and fonts, the same bytes for the same figures."""

from datetime import date
from xml.etree import ElementTree

import pytest

from jobs import charts
from jobs.accuracy import Estimate, Evaluation
from jobs.list_facts import RankScores, Scores, Share

SCORES = Scores((RankScores(1, 0.1, 0.5, 0.9), RankScores(2, 0.0, 0.4, 0.8)), (0.0, 0.5, 1.0), (3, 1))
NIGHTS = [
    Evaluation(date(2026, 3, day), {"users": 5.0 * day, "model_ndcg_sum": 1.0, "popularity_ndcg_sum": 0.5})
    for day in (1, 2, 3)
]
GROWING = [Estimate(50 * n, 0.2, 0.3 / n) for n in (1, 2, 3)]
ESTIMATES = {measure: {who: Estimate(200, 0.1, 0.02) for who in ("model", "popularity")} for measure in ("ndcg", "hit")}
PARTS = [Share(0.0, 0.01, 1, 0.25, 0.75), Share(0.01, 1.0, 99, 0.75, 0.25)]

PICTURES = {
    "trend": lambda: charts.trend(NIGHTS, GROWING, GROWING),
    "one night": lambda: charts.trend(NIGHTS[:1], GROWING[:1], GROWING[:1]),
    "intervals": lambda: charts.intervals(ESTIMATES),
    "histogram": lambda: charts.score_histogram(SCORES),
    "ranks": lambda: charts.score_by_rank(SCORES),
    "concentration": lambda: charts.concentration(PARTS),
    "overlap": lambda: charts.overlap({20: 7, 3: 1}, 20),
}


@pytest.fixture(params=PICTURES)
def picture(request: pytest.FixtureRequest) -> str:
    """Each picture in turn."""
    return PICTURES[request.param]()


def test_a_picture_is_one_small_element_that_asks_for_nothing(picture: str) -> None:
    root = ElementTree.fromstring(picture)
    assert root.tag == "svg"
    assert root.get("viewBox")
    assert root.get("width") is None  # the page decides
    assert "http" not in picture
    assert len(picture) < 40_000


def test_a_picture_has_the_pages_colours_and_no_others(picture: str) -> None:
    assert "var(--" in picture
    for stand_in in charts.VARIABLES:
        assert stand_in not in picture
    assert "font-family: inherit" in picture
    assert "DejaVu" not in picture


def test_names_in_a_picture_cannot_collide_with_the_pages(picture: str) -> None:
    assert "<style" not in picture
    assert "figure_1" not in picture


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_figures_give_the_same_bytes(name: str) -> None:
    assert PICTURES[name]() == PICTURES[name]()


def test_bars_carry_their_shares_as_text() -> None:
    text = charts.concentration(PARTS)
    for words in ("75_%", "25_%", "top 1_%", "1_% to 100_%"):
        assert words.replace("_", "\N{NARROW NO-BREAK SPACE}") in text


@pytest.mark.parametrize(("share", "text"), [(0.0, "0"), (0.025, "2.5"), (0.1, "10"), (0.996, "100"), (1.0, "100")])
def test_percent_is_as_exact_as_people_need(share: float, text: str) -> None:
    assert charts.percent(share) == f"{text}\N{NARROW NO-BREAK SPACE}%"
