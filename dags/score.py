from nightshift_airflow.dags import score

score.define()
