from nightshift_airflow.dags import check

check.define()
