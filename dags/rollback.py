from nightshift_airflow.dags import rollback

rollback.define()
