"""The DAGs, one module for each kind; ``define()`` makes them where Airflow parses a file.

A file in a project's ``dags/`` is three lines: the import, an empty one, ``score.define()``. Its
words "airflow" and "dag" are what tells Airflow that the file is worth parsing.
"""
