"""Past versions of a table, as long as Delta still has them: VACUUM takes their files, the log ends somewhere."""

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame

from jobs.lake import Lake
from schemas.contract import TableContract
from schemas.errors import InputError


def read_past(lake: Lake, contract: TableContract, version: int) -> DataFrame:
    """The table as of `version`; raises InputError before any work where its log or a file of it is gone."""
    wanted = f"table {contract.name} below {lake.root}: expected version {version}"
    try:
        rows = lake.read(contract, version)
    except AnalysisException as error:
        raise InputError(f"{wanted}, found that its log is gone: {str(error).splitlines()[0]}") from error
    files = rows.inputFiles()
    gone = [file for file in files if not _is_there(lake, file)]
    if gone:
        raise InputError(f"{wanted}, found {len(gone)} of its {len(files)} files gone (VACUUM), the first: {gone[0]}")
    return rows


def _is_there(lake: Lake, file: str) -> bool:
    path = lake.spark._jvm.org.apache.hadoop.fs.Path(file)  # type: ignore[union-attr]
    return bool(path.getFileSystem(lake.spark._jsc.hadoopConfiguration()).exists(path))
