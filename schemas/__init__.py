"""Table contracts of the nightly scorer: one module per table, and what checks them."""
