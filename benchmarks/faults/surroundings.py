"""The machine under a night: its disk fills, its clock jumps."""

import random

from benchmarks.faults.rig import NIGHT, OtherwiseError, Outcome, Rig
from schemas.errors import EXIT_RETRY

STAGES = ("[1/7] ingest", "[2/7] build", "[4/7] embed", "[5/7] weigh", "[6/7] score", "[7/7] publish")
DAYS = (40, -40)


def full_disk(rig: Rig, number: int) -> Outcome:
    """The lake's disk is full from one of the stages on (they take turns); after the night gave up there is room."""
    surroundings = rig.surroundings
    process = rig.start("nightly", environment=surroundings.environment)
    process.wait_for(STAGES[number % len(STAGES)])
    with surroundings.normal_again():
        surroundings.fill_disk()
        how = rig.refusal(process, EXIT_RETRY, "No space left on device")
    return Outcome(f"{how}; then {rig.finish()}", rig.wrong_rows())


def clock_jumps(rig: Rig, number: int) -> Outcome:
    """The clock goes forty days ahead, or back, while the night runs; every other time the night is killed after it."""
    surroundings, chance = rig.surroundings, random.Random(number)
    process = rig.start("nightly", "--date", NIGHT, environment=surroundings.environment)
    with surroundings.normal_again():
        process.wait_for("night of ")
        process.sleep(chance.uniform(0, rig.seconds / 2))
        surroundings.move_clock(DAYS[number % len(DAYS)])
        if number // 2 % 2 == 0:
            if code := process.finish():
                raise OtherwiseError(f"expected exit 0 all the same, found exit {code}: {process.said[-1000:]}")
            return Outcome("goes on, exit 0", rig.wrong_rows())
        process.sleep(chance.uniform(0, rig.seconds / 2))
        process.kill()
    return Outcome(f"killed and {rig.finish()} by the true clock", rig.wrong_rows())
