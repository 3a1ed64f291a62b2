"""What the cases came to, kept in a file as each one ends, and the README's table of it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@dataclass(frozen=True)
class Case:
    """One disturbed night; `broken` says how it ended otherwise than it should, and is empty where it did not."""

    fault: str
    number: int
    how: str
    wrong_rows: int
    times: int
    broken: str = ""

    @property
    def survived(self) -> bool:
        """Whether it ended as it should, with the rows of an undisturbed night."""
        return not self.broken and self.wrong_rows == 0


def load(file: Path) -> list[Case]:
    """The cases of a file; none where there is none."""
    return [Case(**case) for case in json.loads(file.read_text())] if file.exists() else []


def save(file: Path, cases: Sequence[Case]) -> None:
    """Whole or not at all."""
    lines = ",\n".join(json.dumps(asdict(case)) for case in cases)
    new = file.with_suffix(".new")
    new.write_text(f"[\n{lines}\n]\n")
    new.replace(file)


def readme_table(cases: Sequence[Case]) -> str:
    """One row a kind of fault: how often, how it ended, in how many rows the tables differ."""
    rows = ["| fault | times | how the night ends | rows that differ |", "|---|---|---|---|"]
    for fault in sorted({case.fault for case in cases}):
        found = [case for case in cases if case.fault == fault]
        ends = Counter(f"BROKEN: {case.broken}" if case.broken else case.how for case in found)
        how = "; or ".join(f"{end} ({count})" if len(ends) > 1 else end for end, count in ends.most_common())
        rows.append(f"| {fault} | {sum(c.times for c in found)} | {how} | {sum(c.wrong_rows for c in found)} |")
    return "\n".join(rows)


def write_readme(readme: Path, cases: Sequence[Case]) -> None:
    """Put the table between its two marks."""
    before, rest = readme.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{readme_table(cases)}\n{END}{after}", "utf-8")
