"""Values that no night can work with are refused when the file is read, with the key's name."""

from collections.abc import Callable

import pytest

from jobs.config import EmbedConfig, LakeConfig, PublishConfig, ScoreConfig
from schemas.errors import ConfigError

EMBED = ("rows_per_call", "items_per_call", "partitions")
SCORE = ("k", "popularity_days", "partitions")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        *[(lambda n=n: EmbedConfig(**{n: 0}), f"embed.{n}: expected at least 1, found 0") for n in EMBED],
        *[(lambda n=n: ScoreConfig(**{n: 0}), f"score.{n}: expected at least 1, found 0") for n in SCORE],
        (lambda: LakeConfig("lake", lock="none"), "lake.lock: expected one of auto, file, lease; found 'none'"),
        (lambda: LakeConfig("lake", lease_seconds=0), "lake.lease_seconds: expected at least 1, found 0"),
        (lambda: EmbedConfig(gpu_amount=0.0), "embed.gpu_amount: expected above 0, found 0.0"),
        (lambda: EmbedConfig(length_buckets=(16, 4)), "embed.length_buckets: expected positive lengths, rising"),
        (lambda: EmbedConfig(length_buckets=(0, 4)), "embed.length_buckets: expected positive lengths, rising"),
        (lambda: EmbedConfig(length_buckets=(4, 4)), "embed.length_buckets: expected positive lengths, rising"),
        (lambda: ScoreConfig(reserve=-3), "score.reserve: expected at least 0, found -3"),
        (lambda: ScoreConfig(seen_days=-1), "score.seen_days: expected at least 0, found -1"),
        (lambda: PublishConfig(min_overlap=1.5), "publish.min_overlap: expected a share in [0, 1], found 1.5"),
        (lambda: PublishConfig(min_full_lists=-0.1), "publish.min_full_lists: expected a share in [0, 1]"),
        (lambda: PublishConfig(max_abs_score=-1.0), "publish.max_abs_score: expected at least 0, found -1.0"),
        (lambda: PublishConfig(max_rows_change=float("nan")), "publish.max_rows_change: expected at least 0, found"),
    ],
)
def test_a_value_out_of_bounds_is_named(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert str(refused.value).startswith(expected)


def test_no_length_bucket_is_needed_beside_the_models_own() -> None:
    assert EmbedConfig(length_buckets=()).length_buckets == ()
