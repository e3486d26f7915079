"""``nightshift``: the same steps that Airflow runs, by hand, and the demonstration.

Each module holds the commands of one theme; importing it adds them to ``app``.
"""

from nightshift.cli import demo, machine, nights, people, project, reading, tuning, versions
from nightshift.cli.base import app, console, main
