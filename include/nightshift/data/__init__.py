"""What lasts: Postgres, the store of files, the keys. The only room that knows their drivers."""

from nightshift.data.database import (
    Bulk,
    Database,
    Transaction,
    as_json,
    connect,
    inlined,
    positional,
)
from nightshift.data.keys import Keys, Rotation, write_once
from nightshift.data.migrations import migrate
from nightshift.data.queries import SQL, named_query, queries, query_text
from nightshift.data.store import ROW_GROUP, Store
