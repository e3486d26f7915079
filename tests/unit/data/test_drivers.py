"""What is said where Postgres cannot be entered: a wrong setting, or an outage."""

from __future__ import annotations

import pytest

from nightshift.data.drivers import _noun
from nightshift.errors import ConnectionFault, DatabaseError, DatabaseUnavailable

AT = 'connection to server at "db" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    "message",
    [
        AT + 'FATAL:  password authentication failed for user "ann"',
        AT + 'FATAL:  Peer authentication failed for user "ann"',
        AT + "authentication method 10 not supported",
        AT + "none of the server's SASL authentication mechanisms are supported",
        AT + "fe_sendauth: no password supplied",
        AT + 'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "ann", no encryption',
        AT + 'FATAL:  database "stock" does not exist',
        AT + 'FATAL:  permission denied for database "stock"',
        AT + 'FATAL:  database "template0" is not currently accepting connections',
        AT + "FATAL:  unsupported startup parameter: extra_float_digits",
        AT + "FATAL:  unsupported startup parameter in options: search_path",
        AT + 'FATAL:  no such database: "stock"',
        AT + "server does not support SSL, but SSL was required",
        AT + "SSL error: certificate verify failed",
        AT + "SSL error: wrong version number",
        AT + "received invalid response to SSL negotiation: H",
        'root certificate file "/ca.pem" does not exist',
        'could not translate host name "dbb" to address: Name or service not known',
        'invalid dsn: invalid connection option "sslmod"',
        'invalid port number: "70000"',
        'definition of service "dwh" not found',
        # The first address of a name is refused, the second says why.
        'connection to server at "localhost" (::1), port 5432 failed: Connection refused\n'
        '\tIs the server running?\nconnection to server at "localhost" (127.0.0.1), port 5432'
        ' failed: FATAL:  role "ann" does not exist',
    ],
)
def test_a_wrong_setting_is_no_outage(message: str) -> None:
    error = _noun("db", None, message, entering=True)
    assert isinstance(error, ConnectionFault)
    assert message.splitlines()[-1].rpartition("FATAL:  ")[2] in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "message",
    [
        AT + "Connection refused\n\tIs the server running on that host and accepting connections?",
        AT + "timeout expired",
        AT + "No route to host",
        AT + "Network is unreachable",
        AT + "server closed the connection unexpectedly",
        AT + "could not receive data from server: Connection reset by peer",
        AT + "SSL SYSCALL error: EOF detected",
        AT + "FATAL:  the database system is starting up",
        AT + "FATAL:  the database system is not yet accepting connections",
        AT + "FATAL:  the database system is in recovery mode",
        AT + "FATAL:  sorry, too many clients already",
        AT + "FATAL:  remaining connection slots are reserved for roles with privileges",
        AT + 'FATAL:  too many connections for role "ann"',
        AT + "FATAL:  terminating connection due to administrator command",
        AT + "FATAL:  canceling authentication due to timeout",
        AT + "FATAL:  pgbouncer cannot connect to server",
        AT + "FATAL:  server login has been failing, try again later (server_login_retry)",
        AT + "FATAL:  no more connections allowed (max_client_conn)",
        AT + "FATAL:  query_wait_timeout",
        'connection to server on socket "/run/pg/.s.PGSQL.5432" failed: No such file or directory',
        'could not translate host name "db" to address: Temporary failure in name resolution',
    ],
)
def test_an_outage_is_worth_another_try(message: str) -> None:
    error = _noun("db", None, message, entering=True)
    assert isinstance(error, DatabaseUnavailable)
    assert error.transient


def test_a_statement_that_names_what_is_not_there_is_refused_as_before() -> None:
    error = _noun("db", "42P01", 'relation "items" does not exist')
    assert type(error) is DatabaseError
    assert error.sqlstate == "42P01"
