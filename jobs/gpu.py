"""Which device a task computes on: the one Spark's scheduler gave it, or the CPU because the config says so.

Stage-level scheduling asks for a share of a GPU a task: with a share of 1/n at most n tasks run on one GPU.
Spark refuses resource profiles in local mode and gives tasks no address there: the driver's are passed in.
"""

from dataclasses import dataclass

from pyspark import TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from jobs.config import DEVICES
from jobs.session import is_local
from schemas.errors import ConfigError

GPU = "gpu"  # Spark's name of the resource, in spark.executor.resource.gpu.* and in task contexts


@dataclass(frozen=True)
class Device:
    """What the config asked for; `addresses` are the driver's GPUs in local mode, else empty."""

    kind: str
    addresses: tuple[str, ...] = ()

    @classmethod
    def of(cls, spark: SparkSession, kind: str) -> "Device":
        """Checked on the driver, before any task starts."""
        if kind not in DEVICES:
            raise ConfigError(f"device: expected one of {', '.join(DEVICES)}, found {kind!r}")
        if kind == "cpu" or not is_local(spark.sparkContext.master or ""):
            return cls(kind)
        found = spark.sparkContext.resources.get(GPU)
        if found is None:
            raise ConfigError(
                "device = gpu in local mode, and the driver has no GPU: set spark.driver.resource.gpu.amount "
                "and spark.driver.resource.gpu.discoveryScript, or say device = cpu."
            )
        return cls(kind, tuple(found.addresses))


def task_device(device: Device) -> str:
    """The torch device of the task that calls this: `cpu`, or `cuda:` and the scheduler's address."""
    if device.kind == "cpu":
        return "cpu"
    context = TaskContext.get()
    if context is None:
        raise ConfigError("device = gpu outside a Spark task: only the scheduler gives out GPU addresses.")
    given = context.resources().get(GPU)
    addresses = given.addresses if given else device.addresses
    if not addresses:
        raise ConfigError(
            "device = gpu, and Spark gave the task no GPU: set spark.executor.resource.gpu.amount and a "
            "discovery script, or say device = cpu."
        )
    return f"cuda:{addresses[0 if given else context.partitionId() % len(addresses)]}"


def resource_profile(spark: SparkSession, kind: str, gpu_amount: float) -> ResourceProfile | None:
    """The profile for `mapInArrow(profile=...)`: None on the CPU and in local mode."""
    if kind == "cpu" or is_local(spark.sparkContext.master or ""):
        return None
    if gpu_amount <= 0 or (gpu_amount > 1 and gpu_amount != int(gpu_amount)):
        raise ConfigError(f"gpu_amount: expected a share of one GPU or a whole number, found {gpu_amount}")
    if "spark.executor.resource.gpu.amount" not in dict(spark.sparkContext.getConf().getAll()):
        raise ConfigError("device = gpu, and executors have no GPU: set spark.executor.resource.gpu.amount.")
    request = TaskResourceRequests().cpus(1).resource(GPU, gpu_amount)
    return ResourceProfileBuilder().require(request).build
