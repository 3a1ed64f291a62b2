"""Personalised links as a SQL function over the history columns: the same code and bits as `embed_users`.

    register_links(night)
    spark.sql("SELECT user_id, personalize_links(item_ids, features, event_types, event_ts) FROM user_history")
"""

import pandas as pd
import pyarrow as pa
from pyspark.sql.pandas.functions import pandas_udf

from jobs.arrow import as_histories
from jobs.embed_users import load_predictor
from jobs.gpu import Device, task_device
from jobs.packages import require_package, ship_package
from jobs.shapes import frozen_shapes
from jobs.stage import Night

NAME = "personalize_links"


def register_links(night: Night, name: str = NAME) -> None:
    """Register the function under the night's package; it returns the links P [L, d] row-major, as array<float>."""
    spark, config = night.lake.spark, night.config.embed
    shipped = ship_package(spark, require_package(night))
    shapes, device = frozen_shapes(config), Device.of(spark, config.device)

    def personalize_links(
        item_ids: pd.Series, features: pd.Series, event_types: pd.Series, event_ts: pd.Series
    ) -> pd.Series:
        columns = {"item_ids": item_ids, "features": features, "event_types": event_types, "event_ts": event_ts}
        batch = pa.RecordBatch.from_pydict({name: pa.array(column) for name, column in columns.items()})
        links = load_predictor(shipped, shapes, task_device(device)).predict(as_histories(batch))  # [B, L * d]
        return pd.Series(list(links.numpy()))

    # PySpark's stubs know series of plain types only
    spark.udf.register(name, pandas_udf(personalize_links, "array<float>"))  # type: ignore[call-overload]
