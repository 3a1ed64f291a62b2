"""SIGKILL: at random moments, after every commit of a night, and of an executor of a real cluster."""

import os
import random
import signal
from pathlib import Path

from benchmarks.faults.processes import DRIVER, GROUP, JVM, Process
from benchmarks.faults.rig import NIGHT, OtherwiseError, Outcome, Rig
from benchmarks.packaging import lime_zip
from benchmarks.standalone import ROOT, standalone_cluster
from schemas.errors import EXIT_OK

KILLS_IN_A_ROW = 4
# tables in the order in which a night commits to them; `runs` takes its plan and, at the end, the rows of its stages
COMMITS = (
    ("runs", 1), ("events_quarantine", 1), ("events", 1), ("items", 1), ("user_seen", 1), ("user_history", 1),
    ("link_embeddings", 1), ("candidate_weights", 1), ("recommendations", 1), ("serving_recommendations", 1),
    ("runs", 2),
)  # fmt: skip
LONG_STAGES = ("[4/7] embed_users", "[6/7] score_candidates")


def at_random(rig: Rig, seed: int, in_a_row: int = KILLS_IN_A_ROW) -> Outcome:
    """A night, then whatever goes on with it, killed one after the other at any moment from its first words on.

    Chance also says what dies: all of it, or one of its two processes, which leaves the other to its own devices.
    """
    chance, kills = random.Random(seed), 0
    for number in range(in_a_row):
        words = ("resume",) if number and chance.random() < 0.5 else ("nightly", "--date", NIGHT)
        process = rig.start(*words)
        process.wait_for("night of ")
        if not process.sleep(chance.uniform(0, rig.seconds)):
            process.finish()
            break
        process.kill(chance.choice((GROUP, GROUP, DRIVER, JVM)))
        kills += 1
    return Outcome(rig.finish(), rig.wrong_rows(), kills)


def after_a_commit(rig: Rig, number: int) -> Outcome:
    """A night killed as soon as one of its commits is there; they take turns."""
    table, nth = COMMITS[number % len(COMMITS)]
    there = rig.commits(table)
    process = rig.start("nightly")
    if not process.wait_until(lambda: rig.commits(table) >= there + nth):
        raise OtherwiseError(f"expected commit {nth} of {table}, found the night's end: {process.said[-1000:]}")
    process.kill()
    return Outcome(rig.finish(), rig.wrong_rows())


def of_an_executor(rig: Rig, seed: int) -> Outcome:
    """A night on a cluster of two workers that loses an executor while it embeds, and one while it scores."""
    chance, folder = random.Random(seed), rig.work / "cluster"
    folder.mkdir()
    with standalone_cluster(folder) as cluster:
        command = cluster.command(ROOT / "jobs" / "submit.py", ("nightly", "--config", str(rig.config)), (lime_zip(),))
        process = Process(command, rig.new_log(), cluster.environment)
        for stage in LONG_STAGES:
            process.wait_for(stage)
            process.sleep(chance.uniform(0, 2))
            found = _executors(folder)
            if not found:
                raise OtherwiseError(f"expected executors at work after {stage!r}, found none: {process.said[-1000:]}")
            os.kill(chance.choice(found), signal.SIGKILL)
        code = process.finish()
    if code != EXIT_OK:
        raise OtherwiseError(f"expected exit 0 all the same, found exit {code}: {process.said[-1000:]}")
    return Outcome("goes on, exit 0", rig.wrong_rows(), len(LONG_STAGES))


def _executors(folder: Path) -> list[int]:
    """Processes of the cluster's executors: each works in a folder of its own below the cluster's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_executor = b"CoarseGrainedExecutorBackend" in (process / "cmdline").read_bytes()
            if is_executor and (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found
