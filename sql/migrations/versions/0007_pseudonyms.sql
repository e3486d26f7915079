-- Entities by pseudonym.

-- Written by pseudonyms ----------------------------------------------------------------------

create table nightshift.pseudonym_keys (
    family      text primary key,
    method      text not null check (method in ('hmac')),
    key_id      text not null check (key_id ~ '^[0-9a-f]{16}$'),
    recorded_at timestamptz not null
);
comment on table nightshift.pseudonym_keys is 'Families whose entities are told by pseudonym, and by which key: with another one, labels would meet no prediction. Append-only.';
comment on column nightshift.pseudonym_keys.key_id is 'The beginning of a SHA-256 made of the key, which is in a file and never here.';

grant select, insert on nightshift.pseudonym_keys to nightshift_writer;
