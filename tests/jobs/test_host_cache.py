"""One copy a host: who publishes it, who may read it, and what a race or a killed worker leaves."""

import multiprocessing
import os
import signal
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from jobs import host_cache
from jobs.host_cache import digest_of, host_file
from schemas.errors import ConfigError, ModelArtifactError

HOME = f"lime-{os.geteuid()}"
FORK = multiprocessing.get_context("fork")


def shipped(folder: Path, content: bytes = b"weights", kind: str = "weights") -> Path:
    """A file as Spark delivers it: named by its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = folder / "plain"
    plain.write_bytes(content)
    return plain.rename(folder / f"{kind}-{digest_of(plain)}.lime")


def names(home: Path) -> set[str]:
    return {file.name for file in home.iterdir() if file.name != ".lock"}


def no_links(self: Path, target: Path) -> None:
    raise OSError("cross-device link")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the host's files would be, in a temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / HOME / "candidates"


def test_a_file_of_the_same_file_system_is_linked_not_copied(tmp_path: Path, home: Path) -> None:
    source = shipped(tmp_path / "executor")
    assert host_file(source).samefile(source)


def test_executors_that_hold_a_copy_each_share_one(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    first, second = (host_file(shipped(tmp_path / executor)) for executor in ("a", "b"))
    assert first == second
    assert first.read_bytes() == b"weights"
    assert names(home) == {first.name}


def test_publishing_again_reads_nothing(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shipped(tmp_path / "executor")
    host_file(source)
    monkeypatch.setattr(host_cache, "digest_of", lambda file: pytest.fail("read a published file again"))
    host_file(source)


def test_content_that_is_not_what_its_name_says_is_refused(tmp_path: Path, home: Path) -> None:
    source = shipped(tmp_path / "executor")
    source.write_bytes(b"weighty")
    with pytest.raises(ModelArtifactError, match=rf"{source.name}: expected content of digest {source.stem[8:]}"):
        host_file(source)
    assert names(home) == set()


def test_a_name_without_a_digest_is_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(ModelArtifactError, match="a name that ends in its digest"):
        host_file(tmp_path / "weights.lime")


def test_a_published_file_of_another_size_is_replaced(tmp_path: Path, home: Path) -> None:
    source = shipped(tmp_path / "executor")
    home.mkdir(parents=True)
    for level in (home.parent, home):
        level.chmod(0o700)
    (home / source.name).write_bytes(b"wei")
    assert host_file(source).read_bytes() == b"weights"


def _publish_killed_halfway(source: Path, home: Path) -> None:
    """Copies half of a file whose room is already taken, then dies as a killed worker does: nothing is cleaned up."""

    def half(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:3].ljust(source.stat().st_size, b"\0"))
        os.kill(os.getpid(), signal.SIGKILL)

    Path.hardlink_to = no_links  # type: ignore[assignment,method-assign]
    host_cache.shutil.copyfile = half  # type: ignore[attr-defined]
    host_file(source)


def test_what_a_killed_worker_left_is_never_used(tmp_path: Path, home: Path) -> None:
    source = shipped(tmp_path / "executor")
    worker = FORK.Process(target=_publish_killed_halfway, args=(source, home))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    assert len(names(home)) == 1, "it left a partial file"
    other = host_file(shipped(tmp_path / "executor", b"other"))
    assert names(home) == {other.name}, "which nobody needs"
    assert host_file(source).read_bytes() == b"weights"


def _publish_together(source: Path, home: Path, start: Barrier, log: Path) -> None:
    """One of several workers; each copy made is a line of the log."""
    copy = host_cache.shutil.copyfile  # type: ignore[attr-defined]

    def noted(source: Path, target: Path) -> None:
        time.sleep(0.2)  # long enough for every other worker to arrive
        with log.open("a") as lines:
            lines.write("copied\n")
        copy(source, target)

    Path.hardlink_to = no_links  # type: ignore[assignment,method-assign]
    host_cache.shutil.copyfile = noted  # type: ignore[attr-defined]
    start.wait(30)
    assert host_file(source).read_bytes() == source.read_bytes()


def test_workers_that_start_together_make_one_copy(tmp_path: Path, home: Path) -> None:
    start, log = FORK.Barrier(4), tmp_path / "log"
    content = os.urandom(1 << 20)
    sources = [shipped(tmp_path / f"executor{n}", content) for n in range(4)]
    workers = [FORK.Process(target=_publish_together, args=(source, home, start, log)) for source in sources]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert log.read_text().splitlines() == ["copied"]
    assert names(home) == {sources[0].name}


def test_the_last_two_of_a_kind_are_kept_and_one_in_use_is_the_newest(tmp_path: Path, home: Path) -> None:
    def at(n: int, kind: str = "weights") -> str:
        time.sleep(0.02)  # modification times must differ
        return host_file(shipped(tmp_path / "executor", str(n).encode(), kind)).name

    items = at(0, "items")
    first, second = at(1), at(2)
    assert names(home) == {items, first, second}
    assert at(1) == first
    third = at(3)
    assert names(home) == {items, first, third}


def test_a_mapped_file_outlives_its_removal(tmp_path: Path, home: Path) -> None:
    with host_file(shipped(tmp_path / "executor")).open("rb") as mapped:
        for n in range(3):
            time.sleep(0.02)
            host_file(shipped(tmp_path / "executor", str(n).encode()))
        assert mapped.read() == b"weights"


@pytest.mark.parametrize("level", [HOME, f"{HOME}/candidates"])
def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, home: Path, level: str) -> None:
    source = shipped(tmp_path / "executor")
    host_file(source)
    (tmp_path / level).chmod(0o755)
    with pytest.raises(ConfigError, match=rf"{level}: expected a folder of user \d+ with mode 700, found .* 755"):
        host_file(source)


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = shipped(tmp_path / "executor")
    host_file(source)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match=f"found owner {owner}"):
        host_file(source)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home.parent.mkdir(mode=0o700)
    home.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="expected a folder of user"):
        host_file(shipped(tmp_path / "executor"))


def test_a_new_folder_is_the_users_alone(tmp_path: Path, home: Path) -> None:
    host_file(shipped(tmp_path / "executor"))
    assert [oct(level.stat().st_mode & 0o777) for level in (home.parent, home)] == ["0o700", "0o700"]
