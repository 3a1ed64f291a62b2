"""The small platform whose second night is disturbed, again and again, from the same state and at the same place."""

import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks.faults.preload import Surroundings
from benchmarks.faults.processes import LIME, Process
from benchmarks.tiny import START, write_day, write_items, write_platform
from jobs.cli import main as lime
from jobs.lake import Lake
from schemas.all_tables import TABLES
from schemas.digest import canonical_json, table_digest
from schemas.errors import EXIT_INPUT, EXIT_OK, EXIT_RETRY
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.training_sequences import TRAINING_SEQUENCES

NIGHT = "2026-01-07"  # the second one
COMPARED = tuple(table for table in TABLES.values() if table not in (RUNS, TRAINING_SEQUENCES))
NOTHING_TO_DO = 7


@dataclass(frozen=True)
class Outcome:
    """What a disturbed night came to: how it ended, how many rows an undisturbed one makes otherwise, how often hit."""

    how: str
    wrong_rows: int
    times: int = 1


class OtherwiseError(Exception):
    """A night that ended otherwise than it should."""


class Rig:
    """Work happens in one folder, set back to the same state before every case."""

    def __init__(self, spark: SparkSession, folder: Path, conf: Path) -> None:
        self.spark, self.folder, self._conf = spark, folder, conf
        self.work, self._pristine = folder / "work", folder / "pristine"
        self._undisturbed, self._logs = folder / "undisturbed", 0

    def prepare(self) -> None:
        """The first night; what the second will find; the second itself, undisturbed, as the one to compare with."""
        write_platform(self.work)
        self._lime("nightly")
        late = int(START.timestamp()) + 90
        lines = (f"u1\tc0i7\tlike\t{late}\t999001", "u2\t\tlike\t1\t999002", f"u3\tc0i6\tsold\t{late}\t999003")
        write_day(self.work, 6, lines)  # an event of the first day, one of no item, one of an unknown type
        write_items(self.work, gone="c2i3", renamed="c1i2")
        shutil.copytree(self.work, self._pristine)
        start = time.monotonic()
        self._lime("nightly")
        self.seconds = time.monotonic() - start
        shutil.move(self.work / "lake", self._undisturbed)
        expected = Lake(self.spark, str(self._undisturbed))
        tables = [table for table in COMPARED if expected.exists(table)]
        self._expected = [(table, rows := expected.read(table), table_digest(rows, table)) for table in tables]

    def reset(self) -> None:
        """The platform as before its second night; nothing of the last case is left, in memory neither."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._pristine, self.work)
        self._forget()

    @property
    def config(self) -> Path:
        return self.work / "night.toml"

    @property
    def lake(self) -> Path:
        return self.work / "lake"

    @cached_property
    def surroundings(self) -> Surroundings:
        """Compiled when they are first asked for."""
        return Surroundings(self.folder / "preload", self.lake)

    def start(self, command: str, *more: str, environment: Mapping[str, str] | None = None) -> Process:
        """A command of `lime` in a process of its own; `environment` is added to this one's."""
        words = (*LIME, command, "--config", str(self.config), "--spark-conf", str(self._conf), *more)
        return Process(words, self.new_log(), {**os.environ, **(environment or {})})

    def new_log(self) -> Path:
        """A file for what a process says."""
        self._logs += 1
        return self.folder / f"{self._logs}.log"

    def commits(self, table: str) -> int:
        """How many commits a table has, by its log's files."""
        return len(list((self.lake / table / "_delta_log").glob("*.json")))

    def finish(self) -> str:
        """End the night as an operator would, and say how: resume it, or start it anew where that is refused."""
        code = self._command("resume", "--nothing-to-do-code", str(NOTHING_TO_DO))
        if code == EXIT_OK:
            return "resumed"
        if code not in (NOTHING_TO_DO, EXIT_INPUT, EXIT_RETRY):
            raise OtherwiseError(f"lime resume: expected exit code 0, 4, 5 or {NOTHING_TO_DO}, found {code}")
        code = self._command("nightly", "--date", NIGHT, "--nothing-to-do-code", str(NOTHING_TO_DO))
        if code == NOTHING_TO_DO:
            return "done already"
        if code != EXIT_OK:
            raise OtherwiseError(f"lime nightly: expected exit code 0 or {NOTHING_TO_DO}, found {code}")
        return "started anew"

    def refusal(self, process: Process, code: int, words: str) -> str:
        """How a night was refused: by this code, in these words, nothing new served; else raises OtherwiseError."""
        found = process.finish()
        if found != code or words not in process.error:
            said = f"exit {found}: {process.error or process.said[-1000:]}"
            raise OtherwiseError(f"expected exit {code} and {words!r}, found {said}")
        if not self.serves_the_first_night():
            raise OtherwiseError(f"expected the lists of before to be served, found others; exit {found}")
        return f"exit {found}, “{words}”"

    def wrong_rows(self, *but: str, root: Path | None = None) -> int:
        """Rows that an undisturbed night's tables have and those of the lake (or `root`) have not, or the reverse."""
        self._forget()
        found, wrong = Lake(self.spark, str(root or self.lake)), 0
        for table, there, digest in self._expected:
            here = found.read_or_empty(table)
            if table.name not in but and table_digest(here, table) != digest:
                here, there = (rows.select(canonical_json(*table.content)) for rows in (here, there))
                wrong += here.exceptAll(there).count() + there.exceptAll(here).count()
        return wrong

    def serves_the_first_night(self) -> bool:
        """Whether readers still get what they got before the night began."""
        self._forget()
        lakes = (Lake(self.spark, str(folder / "lake")) for folder in (self.work, self._pristine))
        found, expected = (table_digest(lake.read(SERVING_RECOMMENDATIONS), SERVING_RECOMMENDATIONS) for lake in lakes)
        return found == expected

    def _lime(self, command: str) -> None:
        """In this process's session, which is warm."""
        if code := self._command(command):
            raise RuntimeError(f"lime {command}: expected exit code 0, found {code}")

    def _command(self, command: str, *more: str) -> int:
        self._forget()
        log = logging.getLogger("lime")
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            return lime([command, "--config", str(self.config), *more])
        finally:
            log.setLevel(level)

    def _forget(self) -> None:
        """Delta keeps what it knows of a path, and the folder at that path is another one by now."""
        self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]
