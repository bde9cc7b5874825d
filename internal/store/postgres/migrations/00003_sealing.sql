-- A program that knows schema 2 alone still runs on this one, as long as nothing is
-- sealed: turning encryption on raises the numbers in portcullis.compatibility.

-- +goose Up

-- One row from the first sealing on. Without it, every field is in clear.
CREATE TABLE portcullis.encryption (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key_check       text     NOT NULL, -- a known text, sealed under the master
    master          text     NOT NULL, -- id of the master that wraps
    rotation        smallint NOT NULL DEFAULT 0 CHECK (rotation BETWEEN 0 AND 3), -- under way; 0: none
    rotation_before bigint   NOT NULL DEFAULT 0, -- a deep rotation replaces the keys up to this id
    clear_reader    bigint   NOT NULL, -- portcullis.compatibility as it was in clear
    clear_writer    bigint   NOT NULL
);

-- The keys of tenants, wrapped under a master. No foreign key: tenant 0 stands for
-- the audit rows that belong to no tenant.
CREATE SEQUENCE portcullis.encryption_key_ids;
CREATE TABLE portcullis.encryption_keys (
    id         bigint PRIMARY KEY DEFAULT nextval('portcullis.encryption_key_ids'),
    tenant_id  bigint NOT NULL,
    wrapped    text   NOT NULL,
    master     text   NOT NULL,
    created_at bigint NOT NULL
);

-- Which keys a tenant's rows are under; 0 is in clear, and so is a tenant without
-- a row here.
CREATE TABLE portcullis.tenant_keys (
    tenant_id     bigint PRIMARY KEY,
    key_id        bigint NOT NULL, -- new rows
    former_key_id bigint           -- NULL: no rotation is under way
);

-- key_id, here and below: what the row's sealed columns are under; 0: in clear.
ALTER TABLE portcullis.memberships ADD COLUMN key_id bigint NOT NULL DEFAULT 0;
ALTER TABLE portcullis.permissions
    ADD COLUMN key_id bigint NOT NULL DEFAULT 0,
    ADD COLUMN name_index bytea CHECK (octet_length(name_index) = 16); -- NULL: in clear
CREATE UNIQUE INDEX permissions_by_index ON portcullis.permissions (tenant_id, role_id, name_index);
ALTER TABLE portcullis.roles ADD COLUMN key_id bigint NOT NULL DEFAULT 0;
ALTER TABLE portcullis.user_keys ADD COLUMN seal_key_id bigint NOT NULL DEFAULT 0; -- its key_id is the API key's public name
ALTER TABLE portcullis.audit
    ADD COLUMN key_id bigint NOT NULL DEFAULT 0,
    ADD COLUMN user_index bytea CHECK (octet_length(user_index) = 16), -- NULL: in clear
    ADD COLUMN sealed text; -- NULL: in clear

-- Ids of master keys with a space between.
ALTER TABLE portcullis.sidecar_reports ADD COLUMN masters text NOT NULL DEFAULT '';
ALTER TABLE portcullis.sidecars ADD COLUMN masters text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE portcullis.sidecars DROP COLUMN masters;
ALTER TABLE portcullis.sidecar_reports DROP COLUMN masters;
ALTER TABLE portcullis.audit DROP COLUMN sealed, DROP COLUMN user_index, DROP COLUMN key_id;
ALTER TABLE portcullis.user_keys DROP COLUMN seal_key_id;
ALTER TABLE portcullis.roles DROP COLUMN key_id;
DROP INDEX portcullis.permissions_by_index;
ALTER TABLE portcullis.permissions DROP COLUMN name_index, DROP COLUMN key_id;
ALTER TABLE portcullis.memberships DROP COLUMN key_id;
DROP TABLE portcullis.tenant_keys, portcullis.encryption_keys, portcullis.encryption;
DROP SEQUENCE portcullis.encryption_key_ids;
