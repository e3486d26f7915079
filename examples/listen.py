"""Wait for published nights, and read each as soon as it is there.

python examples/listen.py postgresql://nightshift_reader:...@host/nightshift [how many nights]

Notifications are told to those who listen at that moment, and to nobody else. Whoever must not miss
a night looks at the view nights after connecting, and takes the notification as a reason to look
again: so does this program.
"""

from __future__ import annotations

import json
import select
import sys
from datetime import datetime

import psycopg2
import psycopg2.extensions

CONTRACT = "2"
NIGHTS = "select batch_id, family, as_of, rows from nights order by published_at desc limit 1000"


def nights(database: psycopg2.extensions.connection) -> dict[int, tuple[str, datetime, int]]:
    """The last thousand nights, latest first: family, as_of and rows by batch."""
    with database.cursor() as cursor:
        cursor.execute(NIGHTS)
        return {batch_id: night for batch_id, *night in cursor.fetchall()}


def wait(database: psycopg2.extensions.connection) -> None:
    """Return when a night has been published, as soon as it is."""
    while not database.notifies:
        select.select([database], [], [])
        database.poll()
    for told in database.notifies:
        contract = json.loads(told.payload)["contract"]
        if contract.split(".")[0] != CONTRACT:
            sys.exit(f"written for contract {CONTRACT}, and this is {contract}")
    database.notifies.clear()


def main(url: str, wanted: str = "0") -> None:
    database = psycopg2.connect(url)
    database.autocommit = True
    with database.cursor() as cursor:
        cursor.execute("listen nightshift_published")
    done = set(nights(database))  # a real client keeps in its own store what it has worked on
    print("listening", flush=True)
    count = 0
    while not count or count != int(wanted):
        wait(database)
        for batch_id, (family, as_of, rows) in nights(database).items():
            if batch_id not in done:
                done.add(batch_id)
                count += 1
                print(f"{family}: {rows} predictions of {as_of} in batch {batch_id}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
