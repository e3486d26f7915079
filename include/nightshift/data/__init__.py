"""What lasts: Postgres, the store of files, the keys. The only room that knows their drivers."""

from nightshift.data.database import (
    LOCK_TIMEOUT,
    Bulk,
    Database,
    Transaction,
    as_json,
    connect,
    positional,
)
from nightshift.data.drivers import libpq_uri, our_nouns
from nightshift.data.keys import Keys, Rotation, write_once
from nightshift.data.lake import Lake
from nightshift.data.migrations import migrate
from nightshift.data.queries import SQL, named_query, queries, query_text
from nightshift.data.store import ROW_GROUP, Store
