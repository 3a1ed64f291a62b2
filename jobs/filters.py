"""What a night's lists are filtered by, made once on the driver, shipped as two plain files and mapped by tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pyspark import SparkFiles
from pyspark.sql import DataFrame

from jobs.eligibility import Bits, ClassCounts, collect_flags, filter_settings, map_masks, write_masks
from jobs.popularity import PopularItems, recent_counts, write_popularity
from jobs.rule_config import Denied
from jobs.rules import UserClasses, denied_items, find_classes, with_binding_rules, with_rule_class
from jobs.stage import Night


@dataclass(frozen=True)
class FilterTables:
    """What filters are made from; the first three are unique by their ids."""

    candidates: DataFrame  # item_id: all rows of candidate_weights of the model
    items: DataFrame  # as of the night
    users: DataFrame  # as of the night: the frame that `with_filters` gets
    events: DataFrame


@dataclass(frozen=True)
class NightFilters:
    """The files' names in a task, and the classes of users they are by."""

    masks: str
    popular: str
    user_classes: UserClasses
    classes: tuple[ClassCounts, ...]  # in the order of `user_classes.found`
    denied: Denied | None

    @property
    def metrics(self) -> Mapping[str, float]:
        """For the report: over classes the fewest and most eligible items, and the most that each rule removed."""
        eligible = [counts.eligible for counts in self.classes]
        removed = zip(*[counts.removed for counts in self.classes], strict=True)
        return {
            "candidates": self.classes[0].candidates,
            "unavailable_items": self.classes[0].unavailable,
            "rule_classes": len(self.classes),
            "min_eligible_items": min(eligible),
            "eligible_items": max(eligible),
            **{f"removed by {pairs[0][0]}": max(count for _, count in pairs) for pairs in removed},
        }


def ship_filters(night: Night, tables: FilterTables, item_ids: str, folder: Path) -> NightFilters:
    """Find the classes of users, write their bitsets and the order of popularity to `folder`, give both to Spark.

    `item_ids` is a digest of the candidates' ids in position order; `folder` stays until the session ends.
    """
    config = night.config.score
    available = tables.items.where("available")
    classes = find_classes(config, available, tables.users)
    taken = recent_counts(night, tables.events)
    flags = collect_flags(tables.candidates, tables.items, taken, classes)
    eligibility = write_masks(flags, classes, filter_settings(config, item_ids), folder)
    popular = write_popularity(flags, folder)
    for file in (eligibility.file, popular):
        night.lake.spark.sparkContext.addFile(str(file))
    return NightFilters(eligibility.file.name, popular.name, classes, eligibility.classes, config.denied)


def with_filters(users: DataFrame, filters: NightFilters) -> DataFrame:
    """Add `rule_class` int, `binding` and `denied` array<string>, never null, to users (attributes)."""
    classes = filters.user_classes
    known = with_binding_rules(with_rule_class(users, classes), classes.rules)
    return known.withColumn("denied", denied_items(filters.denied))


@lru_cache(maxsize=2)
def shipped_masks(name: str, classes: int) -> Bits:
    """In a task, once per Python worker: the bitsets, mapped."""
    return map_masks(SparkFiles.get(name), classes)


@lru_cache(maxsize=2)
def shipped_popularity(filters: NightFilters, width: int) -> PopularItems:
    """In a task, once per Python worker: the popularity lists, mapped."""
    masks = shipped_masks(filters.masks, len(filters.classes))
    return PopularItems(SparkFiles.get(filters.popular), masks, width)
