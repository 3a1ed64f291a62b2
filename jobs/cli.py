"""The `lime` command: one subcommand per job. `spark-submit` runs the same through `jobs/submit.py`."""

import logging
import sys
from collections.abc import Callable
from importlib import import_module

from jobs.outages import as_outage
from schemas.errors import LimeError

COMMANDS = {
    "plan": "print what a night would read, write and compute; write nothing",
    "nightly": "run one whole night and publish it",
    "resume": "go on with an interrupted night, by its own plan",
    "status": "say what is served and how the last nights ended",
    "ingest-events": "read new raw files into events, items and users",
    "build-histories": "bring user_history and user_seen to the night's cut-off",
    "train-model": "train a model package on events up to the cut-off",
    "embed-users": "compute personalised links of users whose history changed",
    "weigh-candidates": "compute candidate weights of items that are new or changed",
    "evaluate-lists": "score what was served before on what its users did next",
    "score-candidates": "make every user's list of the best K available, unseen items",
    "publish": "serve the night's lists, if the gates let them pass",
    "backfill": "rebuild a past night into a root of its own",
    "rollback": "serve an earlier night's lists again, at once",
    "maintain": "compact the tables, remove what nobody needs any more",
    "report": "write a night's report again",
    "synthesize": "generate an event log and catalogue of any size",
    "fetch-movielens": "get MovieLens-100k for the demo",
    "jars": "print Delta's jars for spark-submit --jars, fetching them if needed",
}
MODULES = {"fetch-movielens": "jobs.movielens"}


def usage() -> str:
    """What `lime --help` prints."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "usage: lime COMMAND [OPTIONS]   (lime COMMAND --help says more)\n\n" + "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code. A job's modules are imported only when it is asked for."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if words[0] not in COMMANDS:
        sys.stderr.write(f"lime: unknown command {words[0]!r}; known are {', '.join(COMMANDS)}\n")
        return 2
    module = import_module(MODULES.get(words[0], f"jobs.{words[0].replace('-', '_')}"))
    return exit_code(lambda: int(module.main(words[1:])))


def exit_code(command: Callable[[], int]) -> int:
    """Run a command; an error raised on purpose, or an outage, becomes one line on stderr and its own exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        return command()
    except LimeError as raised:
        return _say(raised)
    except Exception as failure:
        outage = as_outage(failure)
        if outage is None:
            raise
        return _say(outage)


def _say(error: LimeError) -> int:
    sys.stderr.write(f"lime: {error}\n")
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
