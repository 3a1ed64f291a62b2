"""Delta's jars: fetched once into the environment, found offline afterwards, not at all where Spark has them.

Spark's own Ivy resolves them in a child process, so that the user's ivysettings, proxies, mirrors and local
repositories are respected; where Ivy reaches nothing and there is a Maven, Maven is asked to fill the local
repository that Ivy reads.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pyspark.find_spark_home import _find_spark_home

from jobs.doctor import check_java
from schemas.errors import ConfigError, RetryableError

SCALA = "2.13"  # the Scala of PySpark 4
# spark-submit puts what it resolved on the Python path of the script, which is how a child learns it
PRINT_RESOLVED = "import os; print(os.environ['PYTHONPATH'])"


def spark_home() -> Path:
    """The Spark that a session of this process would start: SPARK_HOME, else the one inside PySpark."""
    return Path(_find_spark_home())  # type: ignore[no-untyped-call]


def delta_coordinate() -> str:
    """The Maven coordinate that belongs to the installed delta-spark."""
    return f"io.delta:delta-spark_{SCALA}:{version('delta-spark')}"


def jars_folder(into: Path | None = None) -> Path:
    """Where the jars of the installed delta-spark are kept; a folder of this name is always whole."""
    parent = into or Path(sys.prefix) / "share" / "lime" / "jars"
    return parent / f"delta-spark_{SCALA}-{version('delta-spark')}"


def fetched_jars(into: Path | None = None) -> list[Path]:
    """The jars that are there, none if they were never fetched."""
    return sorted(jars_folder(into).glob("*.jar"))


def fetch_jars(into: Path | None = None) -> list[Path]:
    """The jars, resolved and copied into their folder unless they are there."""
    if jars := fetched_jars(into):
        return jars
    check_java()
    folder = jars_folder(into)
    resolved = _resolve() or (_ask_maven() and _resolve())
    if not resolved:
        raise RetryableError(
            f"Delta's jars ({delta_coordinate()}) are not in {folder} and no Maven repository was reached: "
            f"check network and proxy, or name your mirror by spark.jars.ivySettings in spark-defaults.conf."
        )
    _copy_whole(resolved, folder)
    return fetched_jars(into)


def jars_for_session(conf: Mapping[str, str]) -> list[Path]:
    """What a new session must be given: nothing if this Spark or this configuration brings Delta itself."""
    keys = ("spark.jars", "spark.jars.packages", "spark.driver.extraClassPath")
    given = any("delta-spark" in conf.get(key, "") for key in keys)
    if given or any((spark_home() / "jars").glob("delta-spark*.jar")):
        return []
    return fetch_jars()


def _resolve() -> list[Path]:
    """Paths in Ivy's cache of what the coordinate resolves to; none if it could not be resolved."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "print_resolved.py"
        script.write_text(PRINT_RESOLVED)
        submit = str(spark_home() / "bin" / "spark-submit")
        command = [submit, "--master", "local[1]", "--packages", delta_coordinate(), str(script)]
        # the scripts of spark-submit look for any `python3` that has PySpark; this one is known to
        env = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_HOME": str(spark_home())}
        answer = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if answer.returncode:
        return []
    paths = [Path(path) for path in answer.stdout.strip().split(os.pathsep)]
    return [path for path in paths if path.suffix == ".jar" and spark_home() not in path.parents]


def _ask_maven() -> bool:
    """Let Maven, with the user's own settings, fill the local repository; False if that did not work."""
    maven = shutil.which("mvn")
    if maven is None:
        return False
    command = [maven, "--batch-mode", "--quiet", "dependency:get", f"-Dartifact={delta_coordinate()}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _copy_whole(jars: list[Path], folder: Path) -> None:
    """All jars or none: filled under another name, then renamed."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            partial = Path(made) / "jars"
            partial.mkdir()
            for jar in jars:
                shutil.copy(jar, partial)
            partial.rename(folder)
    except OSError as error:
        if not folder.exists():  # else another process was faster, and its folder is as whole as ours
            raise ConfigError(f"Delta's jars cannot be kept in {folder}: {error.strerror}.") from error


def arg_parser() -> argparse.ArgumentParser:
    """Arguments of `lime jars`."""
    parser = argparse.ArgumentParser(
        prog="lime jars",
        description="Print Delta's jars as spark-submit --jars takes them, fetching them once if needed.",
        epilog='example: spark-submit --jars "$(lime jars)" jobs/submit.py nightly --config night.toml',
    )
    parser.add_argument("--into", type=Path, metavar="DIR", help="keep them here, not in the environment")
    return parser


def main(argv: list[str] | None = None) -> int:
    """`lime jars`."""
    jars = fetch_jars(arg_parser().parse_args(argv).into)
    sys.stdout.write(",".join(str(jar) for jar in jars) + "\n")
    return 0
