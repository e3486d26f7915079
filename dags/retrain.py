from nightshift_airflow.dags import retrain

retrain.define()
