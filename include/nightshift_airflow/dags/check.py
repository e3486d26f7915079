"""Shows every family folder that does not load as one import error in Airflow; it defines no DAG.

The other DAG files leave such folders out, so a broken family never takes others with it.
"""

from __future__ import annotations

from nightshift.errors import ConfigError
from nightshift.family import load_families
from nightshift.site import load_settings
from nightshift_airflow import runtime


def define() -> None:
    """Raise what is wrong with any family's folder, or with the settings, as an import error."""
    _, problems = load_families(runtime.models())
    sentences = [str(problem) for problem in problems]
    try:
        load_settings(runtime.home())
    except ConfigError as error:
        sentences.append(str(error))
    if sentences:
        raise ConfigError("\n".join(sentences))
