"""Others at the same lake: a second submit, a writer that was paused past its time, a tool that commits in between."""

import signal
from pathlib import Path

from benchmarks.faults.rig import NIGHT, OtherwiseError, Outcome, Rig
from schemas.errors import EXIT_OK, EXIT_RETRY
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS

LEASE = 'lock = "lease"\nlease_seconds = 5\n'


def two_submits(rig: Rig, seed: int) -> Outcome:
    """Two submits of the same night at the same time."""
    both = [rig.start("nightly", "--date", NIGHT) for _ in range(2)]
    codes = sorted(process.finish() for process in both)
    if codes not in ([EXIT_OK, EXIT_OK], [EXIT_OK, EXIT_RETRY]):
        raise OtherwiseError(f"expected exit 0, and 0 or 4, found {codes}: {[process.error for process in both]}")
    done = sum("published 20" in process.said for process in both)
    if done != 1:
        raise OtherwiseError(f"expected one publication, found {done}")
    return Outcome("one publishes; the other exits 4 and names it, or has nothing to do", rig.wrong_rows())


def two_backfills(rig: Rig, seed: int) -> Outcome:
    """The night, once it is served, is rebuilt into two roots at the same time."""
    rig.finish()
    roots = [rig.work / f"rebuilt-{n}" for n in range(2)]
    words = ("--date", NIGHT, "--as-known", "--into")
    both = [rig.start("backfill", *words, str(root)) for root in roots]
    for process in both:
        if code := process.finish():
            raise OtherwiseError(f"expected exit 0 of both, found exit {code}: {process.said[-1000:]}")
    wrong = sum(rig.wrong_rows(SERVING_RECOMMENDATIONS.name, EVENTS_QUARANTINE.name, root=root) for root in roots)
    return Outcome("both end, each as the night itself; nothing served changes", wrong + rig.wrong_rows())


def paused_holder(rig: Rig, seed: int) -> Outcome:
    """A writer with a lease that stands still for longer than its term, is succeeded, and wakes up again."""
    rig.config.write_text(rig.config.read_text().replace("[lake]\n", f"[lake]\n{LEASE}"))
    paused = rig.start("nightly")
    paused.wait_for("[4/7]")
    paused.signal(signal.SIGSTOP)
    successor = rig.start("nightly", "--date", NIGHT)
    code = successor.finish()
    paused.signal(signal.SIGCONT)
    if code != EXIT_OK:
        raise OtherwiseError(f"expected the successor's exit 0, found exit {code}: {successor.error}")
    woken = paused.finish()
    if woken != EXIT_RETRY or "of this writer to be the newest" not in paused.error:
        raise OtherwiseError(f"expected exit 4 of who was paused, found exit {woken}: {paused.said[-1000:]}")
    return Outcome("another takes over and publishes; the first wakes, sees the newer token, exits 4", rig.wrong_rows())


def foreign_commit(rig: Rig, seed: int) -> Outcome:
    """Another tool commits to the table of links while the night does, until the night meets it."""
    process = rig.start("nightly")
    process.wait_for("[4/7]")
    for number in range(1000):
        _set_property(rig, number)
        if "the commit is tried again" in process.said or not process.running:
            break
    code = process.finish()
    if "the commit is tried again" not in process.said:
        raise OtherwiseError(f"expected a conflict, found none; exit {code}: {process.said[-1000:]}")
    if code == EXIT_OK:
        return Outcome("committed again, exit 0", rig.wrong_rows())
    return Outcome(f"{rig.refusal(process, EXIT_RETRY, 'expected no other writer')}; {rig.finish()}", rig.wrong_rows())


def _set_property(rig: Rig, number: int) -> None:
    """A commit that changes no row."""
    links = Path(rig.lake, "link_embeddings")
    rig.spark.sql(f"ALTER TABLE delta.`{links}` SET TBLPROPERTIES ('somebody.was.here' = '{number}')")
