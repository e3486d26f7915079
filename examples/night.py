"""Read the last published night of a family into pandas, and say how it was made.

python examples/night.py air_time postgresql+psycopg2://nightshift_reader:...@host/nightshift
"""

from __future__ import annotations

import sys

import pandas as pd
from sqlalchemy import Engine, create_engine, text

LAST = text("select max(as_of) from nights where family = :family and not retired")
NIGHT = text("select * from predictions where family = :family and as_of = :as_of")


def last_night(engine: Engine, family: str) -> pd.DataFrame:
    """Every prediction of the last published night, one row for each entity."""
    with engine.connect() as connection:
        as_of = connection.execute(LAST, {"family": family}).scalar_one()
        return pd.read_sql(NIGHT, connection, params={"family": family, "as_of": as_of})


def main(family: str, url: str) -> None:
    night = last_night(create_engine(url), family)
    print(night[["entity_id", "model", "score", "label", "model_version"]].head(10))
    print(f"{len(night)} predictions of {night['as_of'].max()}, from {night['snapshot'].max()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
