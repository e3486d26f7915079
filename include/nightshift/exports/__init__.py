"""Published nights as files, beside Postgres: Parquet in a folder or bucket, and Iceberg tables."""

from nightshift.exports.files import export, nights
