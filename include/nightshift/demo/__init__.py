"""The demonstration: real flights, lived through."""

from nightshift.demo.cycle import Airflow, Past, live, past_of, run
from nightshift.demo.flights import LAST_RECORDED, LoadReport, load, shift
