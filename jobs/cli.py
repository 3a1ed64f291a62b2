"""The `lime` command: one subcommand per job. `spark-submit` runs the same through `jobs/submit.py`."""

import sys
from importlib import import_module

from jobs.stage import exit_code

COMMANDS = {
    "nightly": "run one whole night and publish it",
    "ingest-events": "read new raw files into events, items and users",
    "build-histories": "bring user_history and user_seen to the night's cut-off",
    "train-model": "train a model package on events up to the cut-off",
    "embed-users": "compute personalised links of users whose history changed",
    "weigh-candidates": "compute candidate weights of items that are new or changed",
    "evaluate-lists": "score what was served before on what its users did next",
    "score-candidates": "make every user's list of the best K available, unseen items",
    "publish": "serve the night's lists, if the gates let them pass",
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


if __name__ == "__main__":
    sys.exit(main())
