-- Families whose models are neither retrained nor replaced by themselves.

create table nightshift.holds (
    hold_id     int generated always as identity primary key,
    family      text not null,
    held        boolean not null,
    reason      text not null check (reason <> ''),
    said_by     text not null,
    recorded_at timestamptz not null
);
create index on nightshift.holds (family, hold_id);
comment on table nightshift.holds is 'Who has held a family, or released it, and why. Append-only: the latest row of a family holds.';
comment on column nightshift.holds.held is 'True: no model of the family is retrained or replaced by itself. False: they are again.';

grant select, insert on nightshift.holds to nightshift_writer;
