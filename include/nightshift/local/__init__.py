"""One machine: the embedded Postgres, Airflow, and the processes that they run in."""

from nightshift.local.databases import drop_database, fresh_database, warehouse_url
from nightshift.local.embedded import Postgres, binaries, session
from nightshift.local.installation import (
    admin_url,
    airflow_environment,
    logins,
    metadata_url,
    psql_command,
    site,
    stored_secrets,
    ui_url,
)
from nightshift.local.processes import Processes
from nightshift.local.progress import Bars
from nightshift.local.servers import (
    airflow,
    airflow_is_running,
    down,
    prepare,
    up,
)
