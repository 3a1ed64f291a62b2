"""Every contract, by table name; the lease aside, which holds no rows."""

from schemas.candidate_weights import CANDIDATE_WEIGHTS
from schemas.events import EVENTS
from schemas.events_quarantine import EVENTS_QUARANTINE
from schemas.items import ITEMS
from schemas.link_embeddings import LINK_EMBEDDINGS
from schemas.recommendations import RECOMMENDATIONS
from schemas.runs import RUNS
from schemas.serving_recommendations import SERVING_RECOMMENDATIONS
from schemas.training_sequences import TRAINING_SEQUENCES
from schemas.user_history import USER_HISTORY
from schemas.user_seen import USER_SEEN
from schemas.users import USERS

TABLES = {
    table.name: table
    for table in (
        EVENTS,
        EVENTS_QUARANTINE,
        ITEMS,
        USERS,
        USER_HISTORY,
        USER_SEEN,
        TRAINING_SEQUENCES,
        LINK_EMBEDDINGS,
        CANDIDATE_WEIGHTS,
        RECOMMENDATIONS,
        SERVING_RECOMMENDATIONS,
        RUNS,
    )
}
