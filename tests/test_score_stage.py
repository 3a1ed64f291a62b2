"""The score stage's plan, and lists that do not depend on how the work is cut or what happens to it."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.packaging import lime_zip
from benchmarks.scored_lake import make_lake, night_of
from benchmarks.standalone import ROOT, standalone_cluster
from jobs import score_candidates
from jobs.cli import exit_code
from jobs.packages import require_package
from jobs.score_candidates import night_lists, scored
from jobs.stage import Night, run_stage
from lime_model.package import load_package
from schemas.digest import table_digest
from schemas.errors import EXIT_INPUT
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from tests.golden import assert_golden

USERS, ITEMS, K = 150, 400, 20
PLAN = Path(__file__).with_name("score_stage_plan.txt")


@pytest.fixture(scope="module")
def root(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A lake of random links and weights with an MLP head."""
    folder = str(tmp_path_factory.mktemp("scored") / "lake")
    make_lake(folder, "mlp", USERS, ITEMS)
    return folder


@pytest.fixture
def night(root: str) -> Night:
    """A run of its own."""
    return night_of(root, "mlp", K)


@pytest.fixture
def no_broadcast(spark: SparkSession) -> Iterator[None]:
    """Tables as Spark treats large ones."""
    name = "spark.sql.autoBroadcastJoinThreshold"
    spark.conf.set(name, "-1")
    yield
    spark.conf.unset(name)


def cut_into(night: Night, partitions: int) -> Night:
    """The same night with another number of tasks."""
    score = replace(night.config.score, partitions=partitions)
    return replace(night.of(night.logical_date), config=replace(night.config, score=score))


def plan_of(night: Night) -> str:
    """The physical plan without what differs from run to run: ids of expressions, places of files."""
    made = night_lists(night, load_package(require_package(night)), in_full=True)
    lists = scored(night, made.chosen, made.work)
    text = lists._jdf.queryExecution().executedPlan().treeString()  # type: ignore[operator]
    text = re.sub(r"#\d+L?|\[plan_id=\d+\]|, \[\]|(?<=lambda x)_\d+", "", text)
    # of a scan its columns are enough: its filters hold dates and digests
    text = re.sub(r"FileScan parquet (\[.*?\]).*", r"FileScan parquet \1", text)
    text = re.sub(r"[0-9a-f]{64}|\d{4}-\d\d-\d\d-[0-9a-f]{12}", "ID", text)
    return "\n".join(line.rstrip()[:160] for line in text.splitlines()) + "\n"


def test_users_flow_through_once(night: Night, no_broadcast: None) -> None:
    plan = plan_of(night)
    assert plan.count("MapInArrow") == 1 and "Window" not in plan and "ArrowEvalPython" not in plan
    after = plan[: plan.index("MapInArrow")]
    assert "Exchange" not in after, "nothing is shuffled once there are lists"
    assert_golden(PLAN, plan)


def test_a_group_of_buckets_reads_its_own_links_only(night: Night) -> None:
    made = night_lists(night, load_package(require_package(night)), in_full=True)
    lists = scored(night, made.chosen.where("pmod(user_bucket, 4) = 1"), made.work)
    plan = lists._jdf.queryExecution().executedPlan().treeString()  # type: ignore[operator]
    scans = [line for line in plan.splitlines() if "FileScan" in line]
    assert len(scans) == 4  # users, links, histories, seen
    assert [scan for scan in scans if not re.search(r"PartitionFilters: \[[^]]*pmod\(", scan)] == []


def test_lists_are_the_same_in_any_number_of_partitions(night: Night) -> None:
    found = set()
    for partitions in (1, 2, 7, 64):
        score_candidates.run(cut_into(night, partitions), in_full=True)
        found.add(table_digest(night.lake.read(RECOMMENDATIONS), RECOMMENDATIONS))
    assert len(found) == 1


def test_the_compiled_kernel_made_the_lists(night: Night) -> None:
    score_candidates.run(night, in_full=True)
    ids = night.lake.read(RECOMMENDATIONS).select("numerics_id").distinct().collect()
    assert [row["numerics_id"] for row in ids] == ["kernel=lime-1"]


def in_full(night: Night) -> int:
    """The stage as `lime` runs it; returns what would be its exit code."""
    return run_stage(night, score_candidates.STAGE, lambda n: score_candidates.run(n, in_full=True)).report.rows_out


def test_bad_links_are_named_by_a_hash_of_their_user(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "lake"
    shutil.copytree(root, copy)
    night = night_of(str(copy), "mlp", K)
    before = night.lake.last_commit(RECOMMENDATIONS, score_candidates.STAGE)
    links = night.lake.read(LINK_EMBEDDINGS)
    bad = F.when(F.col("user_id") == "u00000007", F.transform("links", lambda x: x * F.lit(float("inf")).cast("float")))
    night.lake.overwrite(
        LINK_EMBEDDINGS, links.withColumn("links", F.coalesce(bad, "links")), night.stamp("test")
    )
    hashed = sha256(b"u00000007").hexdigest()
    assert exit_code(lambda: in_full(night)) == EXIT_INPUT
    said = capsys.readouterr().err
    assert "links of user row" in said and f"link_embeddings, row with sha2(user_id, 256) = '{hashed}'" in said
    night.lake.overwrite(LINK_EMBEDDINGS, links.withColumn("history_digest", F.lit("old")), night.stamp("test/old"))
    assert exit_code(lambda: in_full(night.of(night.logical_date))) == EXIT_INPUT
    said += capsys.readouterr().err
    assert "link_embeddings: expected links of every history under this model" in said
    assert "u00000" not in said
    assert night.lake.last_commit(RECOMMENDATIONS, score_candidates.STAGE) == before


# The stage on a cluster where an executor dies, once, while it scores; the driver alone has the benchmarks and tests.
LOST_EXECUTOR = """
import os, signal, sys
from pathlib import Path

clone, root, mark = sys.argv[1:]
sys.path.insert(0, clone)
from benchmarks.scored_lake import night_of
from jobs import score_candidates
from tests.test_score_stage import K, cut_into

plain = score_candidates.scored_batches

def parent_of(process):
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])

def dying(*arguments):
    score = plain(*arguments)
    def score_batches(batches):
        from pyspark import TaskContext
        context = TaskContext.get()
        for lists in score(batches):
            if context.partitionId() == 3 and context.attemptNumber() == 0:
                Path(mark).write_text("killed")
                os.kill(parent_of(os.getppid()), signal.SIGKILL)  # worker, daemon, executor
            yield lists
    return score_batches

score_candidates.scored_batches = dying
score_candidates.run(cut_into(night_of(root, "mlp", K), 8), in_full=True)
"""


def test_a_lost_executor_changes_no_list(root: str, night: Night, tmp_path: Path) -> None:
    score_candidates.run(night, in_full=True)
    undisturbed = table_digest(night.lake.read(RECOMMENDATIONS), RECOMMENDATIONS)
    script, mark = tmp_path / "lost.py", tmp_path / "killed"
    script.write_text(LOST_EXECUTOR)
    (tmp_path / "cluster").mkdir()
    with standalone_cluster(tmp_path / "cluster") as cluster:
        answer = cluster.submit(cluster.command(script, [str(ROOT), root, str(mark)], py_files=[lime_zip()]))
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    assert mark.is_file(), "no executor was killed"
    last = night.lake.last_commit(RECOMMENDATIONS)
    assert last and last.version > night.lake.writes[RECOMMENDATIONS.name]
    assert table_digest(night.lake.read(RECOMMENDATIONS), RECOMMENDATIONS) == undisturbed
