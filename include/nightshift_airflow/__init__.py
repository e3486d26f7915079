"""The seam between Nightshift and Airflow: the only package that both know.

``wiring`` is what DAG files use while Airflow parses them; it opens no connection and imports
nothing heavy. ``runtime`` is what their tasks use while they run: where things are, and which
moment a run is about. ``alerts`` tells people at the end of a run.
"""
