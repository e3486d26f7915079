-- What champions of the past would have been worth, night by night.

create table nightshift.recollections (
    model_id int not null references nightshift.models,
    seq int not null,
    version_id int not null references nightshift.versions,
    as_of timestamptz not null,
    gain double precision,
    row_count bigint not null,
    primary key (model_id, seq, version_id, as_of)
);
comment on table nightshift.recollections is 'What a matured night says of an earlier champion against the one that serves since the promotion seq of the model';
comment on column nightshift.recollections.gain is 'The earlier champion minus the serving one in the metric, greater is better; null where the night does not tell';
comment on column nightshift.recollections.row_count is 'Of how many labelled rows; a sample where a night has many';
grant select, insert on nightshift.recollections to nightshift_writer;
