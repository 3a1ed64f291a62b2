"""Spark jobs of the nightly scorer: one file per `spark-submit` entry point."""
