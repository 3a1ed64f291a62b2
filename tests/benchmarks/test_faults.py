"""The short form of the fault harness, and the README's table of its long form."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.faults.__main__ import figures, still_to_do
from benchmarks.faults.cases import FAULTS, RANDOM
from benchmarks.faults.kills import at_random
from benchmarks.faults.record import BEGIN, END, Case, load, readme_table, save, write_readme
from benchmarks.faults.rig import Rig
from benchmarks.short_lived import short_lived_conf
from schemas.user_history import USER_HISTORY

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "faults" / "record.json"  # what the long form came to


@pytest.fixture(scope="module")
def rig(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Rig:
    folder = tmp_path_factory.mktemp("faults")
    made = Rig(spark, folder, short_lived_conf(folder / "session.conf"))
    made.prepare()
    made.reset()
    return made


def test_a_night_killed_twice_equals_an_undisturbed_one_and_a_wrong_row_would_be_counted(rig: Rig) -> None:
    outcome = at_random(rig, seed=1, in_a_row=2)
    assert (outcome.wrong_rows, outcome.times) == (0, 2)
    rig.spark.sql(f"DELETE FROM delta.`{rig.lake / USER_HISTORY.name}` WHERE user_id IN ('u1', 'u2')")
    assert rig.wrong_rows() == 2


def test_what_is_done_is_not_repeated_and_kills_go_on_until_there_are_enough() -> None:
    done = [Case(fault.name, number, "", 0, 1) for fault in FAULTS for number in range(fault.cases)]
    missing = done.pop()
    done.append(Case(RANDOM.name, 2, "", 0, 4))
    cases = still_to_do(FAULTS, 7, 1, done)
    assert next(cases) == (FAULTS[-1], missing.number)
    for seed in (1, 3):
        assert next(cases) == (RANDOM, seed)
        done.append(Case(RANDOM.name, seed, "", 0, 2))
    assert next(cases, None) is None


def test_a_broken_night_is_told_apart_and_fails_the_claim(tmp_path: Path) -> None:
    cases = [Case("a", 0, "resumed", 0, 1), Case("a", 1, "", 0, 1, "exit 1"), Case(RANDOM.name, 1, "resumed", 3, 4)]
    save(tmp_path / "cases.json", cases)
    assert load(tmp_path / "cases.json") == cases
    assert readme_table(cases).splitlines()[2:] == [
        f"| {RANDOM.name} | 4 | resumed | 3 |",
        "| a | 2 | resumed (1); or BROKEN: exit 1 (1) | 0 |",
    ]
    found = {figure.claim: figure.value for figure in figures(cases, 4)}
    assert found == {"random kills survived": 0, "wrong rows": 3, "cases that ended as they should": 1 / 3}
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(readme, cases)
    assert readme.read_text() == f"before\n{BEGIN}\n{readme_table(cases)}\n{END}\nafter\n"


def test_the_readme_shows_what_the_long_form_came_to() -> None:
    cases = load(RECORD)
    assert {case.fault for case in cases} == {fault.name for fault in FAULTS}
    assert readme_table(cases) in (ROOT / "README.md").read_text("utf-8")
    assert all(case.survived for case in cases)
