"""What a machine must have, checked before anything heavy starts: one sentence for what is missing.

Runs on a bare Python 3.11 (`python -m jobs.doctor java`), so it imports nothing but the standard library and
`schemas.errors`. The Makefile makes the environment through it, the session asks it for Java.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from schemas.errors import ConfigError, LimeError, RetryableError

JAVA_MAJOR = 17  # Spark 4.0's floor, and the one that everything here was tried with
NETWORK_SIGNS = re.compile(
    r"NewConnectionError|NameResolutionError|Temporary failure in name resolution|Max retries|"
    r"Connection refused|Network is unreachable|ConnectTimeout|ReadTimeout|ProxyError|SSLError|"
    r"Could not fetch URL"
)


def java_command() -> str:
    """The Java that Spark's own scripts would run: JAVA_HOME first, then PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if found is None:
        where = f"JAVA_HOME={home}" if home else "PATH"
        raise ConfigError(
            f"Spark needs Java {JAVA_MAJOR} and there is no java in {where}: install it or set JAVA_HOME."
        )
    return found


def java_major(version_output: str) -> int | None:
    """17 for `openjdk version "17.0.15"`, 8 for `java version "1.8.0_392"`, None for anything else."""
    match = re.search(r'version "(?:1\.)?(\d+)', version_output)
    return int(match.group(1)) if match else None


def check_java() -> None:
    """Raise unless the Java that Spark would start is the one that was tried."""
    command = java_command()
    answer = subprocess.run([command, "-version"], capture_output=True, text=True, check=False)
    major = java_major(answer.stderr + answer.stdout)
    if major != JAVA_MAJOR:
        found = "does not run" if major is None else f"is Java {major}"
        raise ConfigError(f"Spark needs Java {JAVA_MAJOR}, and {command} {found}: set JAVA_HOME to one.")


def make_venv(folder: Path) -> None:
    """An empty virtual environment with pip, of the Python that runs this."""
    answer = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, check=False)
    if answer.returncode:
        raise ConfigError(
            f"{sys.executable} could not make {folder}: its venv or ensurepip module is missing (on Debian "
            f"or Ubuntu install python3.11-venv) or the folder cannot be written."
        )


def install_lock(lock: Path) -> None:
    """Install exactly what the lock file names, by hash, into the environment that runs this."""
    log = Path(sys.prefix) / "pip.log"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--log", str(log), "-r", str(lock)]
    # a terminal gets pip's own progress; its errors go to the log and come back as one sentence
    quiet = [] if sys.stdout.isatty() else ["--quiet", "--progress-bar=off"]
    sys.stdout.write(f"Installing {lock} into {sys.prefix}: up to 6 GB the first time.\n")
    sys.stdout.flush()
    answer = subprocess.run([*command, *quiet], stderr=subprocess.DEVNULL, check=False)
    if answer.returncode:
        raise pip_error(lock, log.read_text() if log.exists() else "", log)


def pip_error(lock: Path, text: str, log: Path) -> LimeError:
    """The one sentence that says why pip stopped."""
    if "DO NOT MATCH THE HASHES" in text:
        return ConfigError(f"A package differs from its hash in {lock}, so it was not installed; see {log}.")
    if "No space left" in text:
        return ConfigError(f"The disk filled up while {lock} was installed: 6 GB are needed in {sys.prefix}.")
    if NETWORK_SIGNS.search(text):
        return RetryableError(
            f"No package index could be reached for {lock}: check the network, the proxy or pip's settings, "
            f"and type the command again; details are in {log}."
        )
    errors = re.findall(r"ERROR: (.*)", text)
    reason = errors[-1] if errors else "it gave no reason"
    return ConfigError(f"pip could not install {lock}: {reason}; see {log}.")


def arg_parser() -> argparse.ArgumentParser:
    """Arguments of the Makefile's steps."""
    parser = argparse.ArgumentParser(prog="python -m jobs.doctor", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("java", help="check the Java that Spark would start")
    steps.add_parser("venv", help="make an empty environment").add_argument("folder", type=Path)
    steps.add_parser("install", help="install a lock file here").add_argument("lock", type=Path)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one step; a failure is one sentence on standard error and its exit code."""
    args = arg_parser().parse_args(argv)
    try:
        if args.step == "java":
            check_java()
        elif args.step == "venv":
            make_venv(args.folder)
        else:
            install_lock(args.lock)
    except LimeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
