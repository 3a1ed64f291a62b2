"""All faults there are, in the order of the README's table."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults import inputs, kills, rivals, surroundings
from benchmarks.faults.rig import Outcome, Rig


@dataclass(frozen=True)
class Fault:
    """One kind of fault; `make` disturbs the night of a rig that was just reset, by the number of the case.

    `cases` is how many the long form makes; of random kills as many as it takes.
    """

    name: str
    make: Callable[[Rig, int], Outcome]
    cases: int = 1


RANDOM = Fault("SIGKILL at random moments, up to four in a row, of the night or half of it", kills.at_random, 0)
FAULTS = (
    RANDOM,
    Fault("SIGKILL right after a commit, each of the night's in turn", kills.after_a_commit, len(kills.COMMITS)),
    Fault("an executor of a cluster of two is killed, while embedding and while scoring", kills.of_an_executor),
    Fault("the disk is full from a stage on", surroundings.full_disk, len(surroundings.STAGES)),
    Fault("the clock jumps by forty days, ahead or back", surroundings.clock_jumps, 4),
    Fault("two submits of the same night at once", rivals.two_submits, 3),
    Fault("two backfills of a night at once, into roots of their own", rivals.two_backfills),
    Fault("a holder of the lease stands still past its term", rivals.paused_holder),
    Fault("another tool's commit comes between", rivals.foreign_commit),
    Fault("the day's file is cut in mid-line, later whole", inputs.truncated_file),
    Fault("the day's file holds every line twice", inputs.duplicated_file),
    Fault("the day's file comes after its night", inputs.late_file),
    Fault("the day's file is empty", inputs.empty_file),
    Fault("the catalogue is empty", inputs.empty_catalogue),
    Fault("a byte of the model package is another", inputs.corrupted_package),
    Fault("another package lies under the model's name", inputs.swapped_package),
)
