"""Disturb nights in every way there is; print, keep and compare what they came to."""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import TimeoutExpired

from benchmarks.faults.cases import FAULTS, RANDOM, Fault
from benchmarks.faults.record import Case, load, save, write_readme
from benchmarks.faults.rig import OtherwiseError, Rig
from benchmarks.harness import Figure, parser, present, say
from benchmarks.short_lived import short_lived_conf
from jobs.session import spark_session

KILLS = 100


def disturb(rig: Rig, fault: Fault, number: int) -> Case:
    """One case from a fresh start."""
    rig.reset()
    try:
        outcome = fault.make(rig, number)
    except (OtherwiseError, TimeoutError, TimeoutExpired) as found:
        return Case(fault.name, number, "", 0, 1, str(found))
    return Case(fault.name, number, outcome.how, outcome.wrong_rows, outcome.times)


def still_to_do(faults: Sequence[Fault], kills: int, seed: int, done: Sequence[Case]) -> Iterator[tuple[Fault, int]]:
    """Cases that are not in `done`, which grows while they are made: a fixed number of a kind, then random kills."""
    known = {(case.fault, case.number) for case in done}
    for fault in faults:
        yield from ((fault, number) for number in range(fault.cases) if (fault.name, number) not in known)
    while RANDOM in faults and kills_of(done) < kills:
        if (RANDOM.name, seed) not in known:
            yield RANDOM, seed
        seed += 1


def kills_of(cases: Sequence[Case]) -> int:
    """Random kills."""
    return sum(case.times for case in cases if case.fault == RANDOM.name)


def run(faults: Sequence[Fault], kills: int, seed: int, state: Path | None) -> list[Case]:
    """Make what is still to do, saying and keeping each case as it ends; returns all there are."""
    cases = load(state) if state else []
    with tempfile.TemporaryDirectory(prefix="lime-faults-") as folder:
        conf = short_lived_conf(Path(folder, "session.conf"))
        rig = Rig(spark_session("benchmark", conf), Path(folder), conf)
        rig.prepare()
        say(f"the night that is disturbed takes {rig.seconds:.1f} s; random kills from seed {seed} on")
        for fault, number in still_to_do(faults, kills, seed, cases):
            case = disturb(rig, fault, number)
            cases.append(case)
            said = f"BROKEN: {case.broken}" if case.broken else f"{case.how}; {case.wrong_rows} rows differ"
            say(f"{fault.name}, {number}: {said}")
            if state:
                save(state, cases)
    return cases


def figures(cases: Sequence[Case], kills: int) -> list[Figure]:
    """The two claims, and how many cases ended as they should."""
    survived = [case for case in cases if case.survived]
    return [
        Figure("random kills survived", float(kills_of(survived)), "", float(kills)),
        Figure("wrong rows", float(sum(case.wrong_rows for case in cases)), "", 0.0),
        Figure("cases that ended as they should", len(survived) / len(cases), "", 1.0),
    ]


def arg_parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    names = sorted({fault.make.__name__ for fault in FAULTS})
    arguments = parser("faults", "Kill, fill up, corrupt and race nights of a small platform; compare what they make.")
    arguments.add_argument("--kills", type=int, default=KILLS, metavar="N", help=f"random kills (default: {KILLS})")
    arguments.add_argument("--seed", type=int, default=1, metavar="N", help="of the first random kill (default: 1)")
    arguments.add_argument("--only", choices=names, metavar="FAULT", help=f"one kind: {', '.join(names)}")
    arguments.add_argument("--state", type=Path, metavar="FILE", help="keep finished cases there, do not repeat them")
    arguments.add_argument("--readme", type=Path, metavar="FILE", help="put the table into this README")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; the exit code is 1 where a night ended otherwise than it should."""
    args = arg_parser().parse_args(argv)
    kills = 1 if args.quick else args.kills
    faults = [fault for fault in FAULTS if args.only in (None, fault.make.__name__)]
    cases = run([RANDOM] if args.quick else faults, kills, args.seed, args.state)
    present("disturbed nights", figures(cases, kills), args.json)
    if args.readme:
        write_readme(args.readme, cases)
    return int(not all(case.survived for case in cases))


if __name__ == "__main__":
    sys.exit(main())
