-- A night that several tasks score: what each of them has to do, and whether it is done.

-- Written by scoring -------------------------------------------------------------------------

create table nightshift.batch_parts (
    batch_id       int not null references nightshift.batches,
    part           int not null,
    plan           jsonb not null,
    row_count      bigint,
    written_at     timestamptz,
    failed         jsonb not null default '{}',
    shadows_at     timestamptz,
    failed_shadows jsonb not null default '{}',
    primary key (batch_id, part),
    check ((written_at is null) = (row_count is null))
);
comment on table nightshift.batch_parts is 'The parts in which a batch is written, one task each. A part and its rows are committed together, so a part is written once, however often it is tried.';
comment on column nightshift.batch_parts.plan is 'What the part scores, fixed when the batch began: members with the versions that score them, and which row groups of the snapshot.';
comment on column nightshift.batch_parts.row_count is 'How many rows were written for readers, those of versions that failed midway included.';
comment on column nightshift.batch_parts.failed is 'The versions that failed here, with the error of each: none of their rows in the batch are kept, whichever part wrote them.';
comment on column nightshift.batch_parts.shadows_at is 'When the challengers in shadow had scored the part, after its champions.';
comment on column nightshift.batch_parts.failed_shadows is 'The same of the challengers in shadow.';

-- Who may do what ----------------------------------------------------------------------------

grant select, insert on nightshift.batch_parts to nightshift_writer;
grant update (row_count, written_at, failed, shadows_at, failed_shadows)
    on nightshift.batch_parts to nightshift_writer;
