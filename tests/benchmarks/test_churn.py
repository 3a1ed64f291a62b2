import pytest

from benchmarks.churn import churn_figures


def test_whole_nights_of_churn_end_with_the_lists_of_a_full_scoring(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {figure.claim: figure.value for figure in churn_figures(60, 200, (0.1,), target=False)}
    assert figures["identical lists"] == 1
    assert {"10 % churn share of night", "10 % churn share of score stage", "full night"} < set(figures)
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if " % " in line}
    made = {share: [int(count.replace(",", "")) for count in cells[-3:]] for share, cells in rows.items()}
    assert made["100"] == [60, 0, 200]
    assert made["10"] == [6, 54, 20]
