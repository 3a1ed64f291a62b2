import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lime_model import data
from lime_model.data import read_windows
from lime_model.windows import Window, WindowSet, windows_of
from schemas.errors import EmptyTableError, InputError
from tests.lime_model.samples import walks


def write(path: Path, rows: list[Window]) -> str:
    """One Parquet file as Spark writes `training_sequences`, with columns that the reader does not want."""
    columns = {
        "user_id": pa.array([w.user_id for w in rows], pa.string()),
        "user_bucket": pa.array([0] * len(rows), pa.int32()),
        "item_ids": pa.array([list(w.item_ids) for w in rows], pa.list_(pa.string())),
        "features": pa.array([list(w.features) for w in rows], pa.list_(pa.string())),
        "event_types": pa.array([list(w.event_types) for w in rows], pa.list_(pa.string())),
        "event_ts": pa.array([list(w.event_ts) for w in rows], pa.list_(pa.int64())),
        "targets_from": pa.array([w.targets_from for w in rows], pa.int32()),
        "is_last": pa.array([w.is_last for w in rows], pa.bool_()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path.as_uri()


def same(one: WindowSet, other: WindowSet) -> bool:
    parts = [(getattr(one, name), getattr(other, name)) for name in vars(one)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in parts)


def test_what_is_read_is_what_was_written_in_file_and_row_order(tmp_path: Path) -> None:
    rows = walks(11)
    urls = [write(tmp_path / "b.parquet", rows[6:]), write(tmp_path / "a.parquet", rows[:6])]
    assert same(read_windows(urls, 14), windows_of(rows))


def test_only_the_files_named_are_read(tmp_path: Path) -> None:
    rows = walks(6)
    live = write(tmp_path / "live.parquet", rows[:2])
    write(tmp_path / "deleted.parquet", rows[2:])
    assert len(read_windows([live], 14)) == 2


def test_ids_and_features_of_any_text_survive(tmp_path: Path) -> None:
    odd = Window(
        "u", ["", "a,b", "ä\n", "\U0001f600"], ['{"a":"x, \\"y\\""}', "{}", "{}", "{}"], ["v"] * 4, [1, 2, 3, 4]
    )
    found = read_windows([write(tmp_path / "odd.parquet", [odd])], 4)
    assert same(found, windows_of([odd]))


def test_a_window_beyond_the_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="windows of 5 events"):
        read_windows([write(tmp_path / "a.parquet", walks(2))], 5)


def test_a_set_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "MAX_EVENTS", 20)
    with pytest.raises(InputError, match="at most 20 events"):
        read_windows([write(tmp_path / "a.parquet", walks(3))], 14)


def test_no_files_are_refused() -> None:
    with pytest.raises(EmptyTableError, match="none"):
        read_windows([], 5)


def test_importing_it_is_silent() -> None:
    code = "import lime_model.data"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "FutureWarning" not in done.stderr and "petastorm" not in done.stdout


def test_the_rest_of_the_package_does_without_petastorm_spark_pandas_and_numpy() -> None:
    names = sorted(p.stem for p in Path(data.__file__).parent.glob("*.py") if p.stem not in ("data", "__init__"))
    code = "import sys\n" + "".join(f"import lime_model.{name}\n" for name in names)
    code += "print([m for m in ('petastorm', 'pyspark', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
