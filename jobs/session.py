"""The Spark session of every job: the submit's own, or one started here from a properties file.

Under spark-submit the configuration is the submit's, checked, never changed. As plain `lime` the session is
started from `spark-conf/local.conf` or the file that was named, with Delta's jars and this interpreter added.
"""

import logging
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pyspark
from py4j.java_gateway import JavaClass
from pyspark.sql import SparkSession

from jobs.doctor import check_java
from jobs.jars import fetched_jars, jars_for_session, spark_home
from schemas.errors import ConfigError

log = logging.getLogger("lime")

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
REQUIRED = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
}


def spark_session(app_name: str, conf_file: str | Path | None = None) -> SparkSession:
    """The running session (a notebook's, a test's), else the submit's, else one started from `conf_file`."""
    running = SparkSession.getActiveSession()
    if running is not None:
        return require_delta(running)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return require_delta(SparkSession.builder.appName(app_name).getOrCreate())
    conf = session_conf(Path(conf_file) if conf_file else default_conf())
    return require_delta(SparkSession.builder.appName(app_name).config(map=dict(conf)).getOrCreate())


def session_conf(conf_file: Path) -> Mapping[str, str]:
    """What a session of our own is started with; sets the environment variables that its JVM inherits."""
    conf = read_properties(conf_file)
    check_java()
    check_spark_home()
    if not fetched_jars():
        log.info("Delta's jars are looked up once.")
    jars = [str(jar) for jar in jars_for_session(conf)]
    if not is_local(conf.get("spark.master", "")):
        return _with_listed(conf, "spark.jars", jars, ",")
    os.environ["PYSPARK_PYTHON"] = sys.executable  # else workers are whatever `python3` is on the PATH
    # a laptop's host name often resolves to an address that is not up, or not at all
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    conf = _with_listed(conf, "spark.driver.extraClassPath", jars, os.pathsep)
    return _with_listed(conf, JAVA_OPTIONS, [*_log_options(conf_file), *_archive_options()], " ")


def is_local(master: str) -> bool:
    """True where tasks run inside the driver; `local-cluster` is a cluster."""
    return master == "local" or master.startswith("local[")


def default_conf() -> Path:
    """`local.conf`, beside the packages in a clone, in the environment where they are installed."""
    clone = Path(__file__).parents[1] / "spark-conf" / "local.conf"
    return clone if clone.is_file() else Path(sys.prefix) / "share" / "lime" / "spark-conf" / "local.conf"


def read_properties(conf_file: Path) -> dict[str, str]:
    """Keys and values of a Spark properties file, as spark-submit --properties-file reads its simple form."""
    if not conf_file.is_file():
        raise ConfigError(f"There is no Spark properties file {conf_file}.")
    conf = {}
    for number, line in enumerate(conf_file.read_text().splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, *value = text.split(maxsplit=1)
        if not key.startswith("spark.") or not value:
            raise ConfigError(f"{conf_file}, line {number}: expected `spark.key value`, found {text!r}")
        conf[key] = value[0]
    return conf


def require_delta(session: SparkSession) -> SparkSession:
    """Raise unless the session can read and write Delta and counts its days in UTC."""
    found = {key: session.conf.get(key, None) for key in REQUIRED}
    missing = {key: value for key, value in REQUIRED.items() if value not in (found[key] or "").split(",")}
    if missing:
        add = " ".join(f"--conf {key}={value}" for key, value in missing.items())
        raise ConfigError(f"The Spark session lacks settings that Delta and the night need: add {add}")
    if not isinstance(session._jvm.io.delta.sql.DeltaSparkSessionExtension, JavaClass):  # type: ignore[union-attr]
        raise ConfigError('The Spark session has no Delta classes: add --jars "$(lime jars)" or --packages.')
    return session


def check_spark_home() -> None:
    """Raise where SPARK_HOME names a Spark of another version than this environment's PySpark."""
    jars = spark_home() / "jars"
    if not any(jars.glob(f"spark-core_*-{pyspark.__version__}.jar")):
        raise ConfigError(f"SPARK_HOME={spark_home()} is not Spark {pyspark.__version__}: unset SPARK_HOME.")


def archive_file() -> Path:
    """Where `jobs.class_archive` keeps the classes of this Spark and Delta; there only when whole."""
    name = f"classes-{version('pyspark')}-{version('delta-spark')}.jsa"
    return Path(sys.prefix) / "share" / "lime" / name


def _archive_options() -> list[str]:
    """Classes load from the archive where there is one; a JVM that it does not fit says nothing."""
    file = archive_file()
    quiet = ["-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    return [f"-XX:SharedArchiveFile={file}", *quiet] if file.is_file() else []


def _log_options(conf_file: Path) -> list[str]:
    """A terminal gets the job's own lines, not a page of warnings."""
    settings = conf_file.with_name("log4j2.properties").absolute()
    return [f"-Dlog4j2.configurationFile={settings.as_uri()}"] if settings.is_file() else []


def _with_listed(conf: Mapping[str, str], key: str, values: list[str], separator: str) -> dict[str, str]:
    """The configuration with values appended to a key that holds a list."""
    listed = [conf[key], *values] if key in conf else values
    return {**conf, key: separator.join(listed)} if listed else dict(conf)
