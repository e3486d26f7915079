-- Who examines an installation asks as the writer which schema the database has.

grant select on nightshift.schema_version to nightshift_writer;
