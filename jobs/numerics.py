"""Bits hold within one numerics id (torch, device, shapes): a table never mixes two."""

from pyspark.sql import DataFrame

from schemas.errors import ContractError


def numerics_id(rows: DataFrame, what: str) -> str | None:
    """The one id that the rows were computed under; None for no rows. Raises ContractError for two. Collects ids."""
    ids = sorted(row["numerics_id"] for row in rows.select("numerics_id").distinct().collect())
    if len(ids) > 1:
        raise ContractError(f"{what}: expected workers of one numerics id, found {ids}")
    return ids[0] if ids else None
