FROM apache/airflow:3.3.2-python3.11

USER root
RUN install --directory --owner airflow --group 0 --mode 0770 /opt/nightshift /var/lib/nightshift
USER airflow

WORKDIR /opt/nightshift
COPY --chown=airflow:0 requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt
COPY --chown=airflow:0 . .
RUN pip install --no-cache-dir --no-deps --editable .
