from nightshift_airflow.dags import maintain

maintain.define()
