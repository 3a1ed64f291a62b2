import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks.maintenance import main


def test_small_files_pile_up_only_where_nobody_joins_them(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, figures = tmp_path / "p" / "nights.svg", tmp_path / "figures.json"
    assert main(["--quick", "--picture", str(picture), "--json", str(figures)]) == 0
    found = {figure["claim"]: figure["value"] for figure in json.loads(figures.read_text())["figures"]}
    assert found["files at the end, kept up"] < found["files at the end, left alone"]
    assert found["size at the end, kept up"] < found["size at the end, left alone"]
    assert found["seconds of maintenance a night"] > 0
    assert "files, left alone" in capsys.readouterr().out
    assert "<svg" in picture.read_text()
