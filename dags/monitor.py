from nightshift_airflow.dags import monitor

monitor.define()
