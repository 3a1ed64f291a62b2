"""A real standalone Spark cluster on loopback: a master and two workers from pip's pyspark, for tests and benchmarks.

The workers' Python has the environment's third-party packages and not the project: what a task imports of it
came through `--py-files lime.zip`.
"""

import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.short_lived import QUICK_JVM
from jobs.jars import fetch_jars, spark_home

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
SUBMIT_SECONDS = 600


@dataclass(frozen=True)
class StandaloneCluster:
    """A running cluster; `python` is the interpreter of its workers, `folder` is for scratch files."""

    master: str
    python: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever submits to it."""
        return {**cluster_environment(self.python), "PYSPARK_DRIVER_PYTHON": sys.executable}

    def command(
        self,
        script: Path,
        arguments: Sequence[str] = (),
        py_files: Sequence[Path] = (),
        properties: Path = ROOT / "spark-conf" / "standalone.conf",
        conf: Sequence[str] = (),
    ) -> list[str]:
        """The README's spark-submit line."""
        command = [str(spark_home() / "bin" / "spark-submit"), "--master", self.master]
        command += ["--properties-file", str(properties), "--jars", ",".join(map(str, fetch_jars()))]
        command += ["--py-files", ",".join(map(str, py_files))] if py_files else []
        command += [word for setting in conf for word in ("--conf", setting)]
        return [*command, str(script), *arguments]

    def submit(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        """Run a `command` from a folder that is not the clone."""
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SUBMIT_SECONDS,
            check=False,
        )


def readme_command() -> str:
    """What the README says to type for a night on a cluster, but for making the zip."""
    section = (ROOT / "README.md").read_text("utf-8").split("## On a cluster", 1)[1]
    first, command = section.split("```")[1].strip().split("\n", 1)
    assert first == "make zip"
    return command


@contextmanager
def standalone_cluster(
    folder: Path, workers: int = 2, worker_properties: Path | None = None, cores: int = 1
) -> Iterator[StandaloneCluster]:
    """Start a master and workers, wait until all are registered, stop them at the end."""
    python = python_without_project(folder / "python")
    address = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    processes = []
    try:
        processes.append(_start("master.Master", address, folder, "master", python))
        master = _wait_for(folder / "master.log", r"Starting Spark master at (spark://\S+)")
        sizes = ("--cores", str(cores), "--memory", "2g", "--work-dir", str(folder / "work"))
        properties = ("--properties-file", str(worker_properties)) if worker_properties else ()
        names = [f"worker{number}" for number in range(workers)]
        for name in names:
            options = (*address, *sizes, *properties, master)
            processes.append(_start("worker.Worker", options, folder, name, python))
        for name in names:
            _wait_for(folder / f"{name}.log", r"Successfully registered with master (\S+)")
        yield StandaloneCluster(master, python, folder)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=START_SECONDS)


def python_without_project(folder: Path) -> Path:
    """An interpreter with this environment's packages, where `import jobs` fails."""
    venv.create(folder, with_pip=False)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # a folder that a .pth names is searched, but the .pth files in it, the project's too, are not read
    (packages / "environment.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def cluster_environment(python: Path) -> dict[str, str]:
    """This process's environment with another Python for workers and nothing that leads to the clone."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SPARK_CONF_DIR")}
    return {
        **kept,
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
        "JDK_JAVA_OPTIONS": QUICK_JVM,
    }


def _start(
    name: str, options: Sequence[str], folder: Path, log: str, python: Path
) -> "subprocess.Popen[bytes]":
    """One daemon of the cluster; spark-class replaces itself by the JVM, so the process is the JVM's."""
    command = [str(spark_home() / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *options]
    with (folder / f"{log}.log").open("wb") as output:
        return subprocess.Popen(
            command, env=cluster_environment(python), cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )


def _wait_for(log: Path, pattern: str) -> str:
    """The first group of a pattern, as soon as the log has it."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text()):
            return found.group(1)
        time.sleep(0.1)
    raise TimeoutError(f"{log.name} did not say {pattern!r} in {START_SECONDS} s:\n{log.read_text()[-2000:]}")
