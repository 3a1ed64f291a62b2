"""`lease`: who writes to this root, where the operating system's lock does not reach.

The table has no rows. Its commits are the lease, the newest one says who holds it: a commit is what Delta adds only
once under one version, and one without rows needs no Spark job, which would queue behind a stage's tasks.
"""

from schemas.contract import Field, TableContract
from schemas.types import LONG

LEASE = TableContract(
    name="lease",
    grain="no row; one commit is one sign of life, in its metadata",
    key=("token",),
    fields=(Field("token", LONG, "Never written: a table needs a column"),),
    properties={"delta.logRetentionDuration": "interval 1 day", "delta.enableDeletionVectors": "false"},
)
