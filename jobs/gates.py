"""What is looked at before a night is served, and what refuses it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.config import PublishConfig
from schemas.recommendations import MODEL


def gate_figures(
    lists: DataFrame, users: DataFrame, available: DataFrame, served: DataFrame, k: int
) -> dict[str, float]:
    """One number a gate. `users` are those valid tonight, `available` the items that may be shown: unique by id."""
    here = lists.select("user_id", "items", "source").withColumn("listed", F.lit(True))
    valid = users.select("user_id").withColumn("valid", F.lit(True))
    before = served.select("user_id", F.col("items.item_id").alias("before"))
    both = here.join(valid, on=["user_id"], how="full_outer").join(before, on=["user_id"], how="left")
    now = F.col("items.item_id")
    overlap = F.size(F.array_intersect(now, "before")) / F.greatest(F.size(now), F.lit(1))
    scores = F.transform("items", lambda item: F.abs(item["score"].cast("double")))
    # Spark orders NaN above every number, so a score that is not finite is the maximum.
    highest = F.coalesce(F.array_max(scores), F.lit(0.0))
    infinite = F.isnan(highest) | (highest == float("inf"))
    row = both.agg(
        F.count("listed").alias("lists"),
        F.count("valid").alias("users"),
        F.count_if(F.col("listed") & F.col("valid")).alias("covered"),
        F.count_if(F.col("listed") & F.col("valid").isNull()).alias("lists_of_unknown_users"),
        F.count_if(F.size("items") == k).alias("full_lists"),
        F.count_if(F.size(F.array_distinct(now)) < F.size(now)).alias("lists_with_repeats"),
        F.count_if(F.col("listed") & ~now.eqNullSafe(F.col("before"))).alias("lists_of_other_items"),
        F.count_if(infinite).alias("lists_without_finite_scores"),
        # a popularity list's scores are counts of events: as large as the platform is
        F.coalesce(F.max(F.when(F.col("source") == MODEL, highest)), F.lit(0.0)).alias("max_abs_score"),
        F.avg(F.when(F.col("before").isNotNull() & F.col("listed"), overlap)).alias("overlap"),
        F.count("before").alias("served_before"),
    ).first()
    figures = {name: float(value) for name, value in row.asDict().items() if value is not None} if row else {}
    shown = lists.select(F.explode("items.item_id").alias("item_id")).distinct()
    wrong = shown.join(available.select("item_id"), on=["item_id"], how="left_anti").count()
    return {**figures, "unavailable_items": float(wrong), "served_lists": float(served.count())}


def refused_gates(figures: dict[str, float], gates: PublishConfig) -> list[str]:
    """One sentence per gate that refuses: expected and found."""
    lists, users = figures["lists"], figures["users"]
    refused = []

    def gate(name: str, holds: bool, expected: str, found: float) -> None:
        if not holds:
            refused.append(f"{name}: expected {expected}, found {found:g}")

    gate("lists", lists > 0, "at least one", lists)
    coverage = figures["covered"] / users if users else 0.0
    gate(
        "user coverage",
        coverage >= gates.min_user_coverage,
        f"at least {gates.min_user_coverage:g}",
        coverage,
    )
    gate(
        "lists of unknown users",
        figures["lists_of_unknown_users"] == 0,
        "0",
        figures["lists_of_unknown_users"],
    )
    full = figures["full_lists"] / lists if lists else 0.0
    gate("full lists", full >= gates.min_full_lists, f"at least {gates.min_full_lists:g}", full)
    gate("lists with repeats", figures["lists_with_repeats"] == 0, "0", figures["lists_with_repeats"])
    infinite = figures["lists_without_finite_scores"]
    gate("lists with a score that is not finite", infinite == 0, "0", infinite)
    score = figures["max_abs_score"]
    gate("absolute score of the model", score <= gates.max_abs_score, f"at most {gates.max_abs_score:g}", score)
    wrong = figures["unavailable_items"]
    gate("unavailable or unknown items", wrong == 0, "0", wrong)
    before = figures["served_lists"]
    if before:
        change = abs(lists - before) / before
        gate("change of rows", change <= gates.max_rows_change, f"at most {gates.max_rows_change:g}", change)
        overlap = figures.get("overlap", 0.0)
        gate(
            "overlap with last night",
            overlap >= gates.min_overlap,
            f"at least {gates.min_overlap:g}",
            overlap,
        )
    return refused
