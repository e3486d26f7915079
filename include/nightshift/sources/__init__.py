"""What comes in from elsewhere: sources of any kind, queries of authors, and names as kept."""

from nightshift.sources.base import KINDS, Kind, Question, Source, open_source, url_of
from nightshift.sources.checking import label_columns, query_problems, tables_of
from nightshift.sources.connections import (
    AirflowConnection,
    missing_connection,
    read_connection,
    read_extra,
    spellings,
    variable_of,
)
from nightshift.sources.pseudonyms import Names, names_in, names_of
from nightshift.sources.queries import MOMENTS, Query, read_query
