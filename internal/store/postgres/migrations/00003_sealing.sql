-- A sidecar that knows schema 2 alone still runs on this one, as long as nothing is
-- sealed: turning encryption on raises the numbers in portcullis.compatibility. An
-- admin process does not: it would write rows in clear beside sealed ones.

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
-- A sealed name may be too long for an index, and is unique by name_index.
ALTER TABLE portcullis.permissions DROP CONSTRAINT permissions_tenant_id_role_id_name_key;
CREATE UNIQUE INDEX permissions_by_name ON portcullis.permissions (tenant_id, role_id, name) WHERE key_id = 0;
ALTER TABLE portcullis.roles ADD COLUMN key_id bigint NOT NULL DEFAULT 0;
ALTER TABLE portcullis.user_keys ADD COLUMN seal_key_id bigint NOT NULL DEFAULT 0; -- its key_id is the API key's public name
ALTER TABLE portcullis.audit
    ADD COLUMN key_id bigint NOT NULL DEFAULT 0,
    ADD COLUMN user_index bytea CHECK (octet_length(user_index) = 16), -- NULL: in clear
    ADD COLUMN sealed text; -- NULL: in clear

-- A rotation goes through a tenant's rows by id; roles and the audit have such an
-- index already.
CREATE INDEX memberships_by_tenant ON portcullis.memberships (tenant_id, id);
CREATE INDEX permissions_by_tenant ON portcullis.permissions (tenant_id, id);
CREATE INDEX user_keys_by_tenant ON portcullis.user_keys (tenant_id, id);

-- mark_sealed says which programs run on the schema: while fields are sealed those
-- that know version 3 of it, else those that did before. It runs with its owner's
-- rights, so that an admin process can seal a new database and owns no table.
-- +goose StatementBegin
CREATE FUNCTION portcullis.mark_sealed(sealed boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE portcullis.compatibility AS c
    SET oldest_reader = CASE WHEN sealed THEN greatest(c.oldest_reader, 3) ELSE e.clear_reader END,
        oldest_writer = CASE WHEN sealed THEN greatest(c.oldest_writer, 3) ELSE e.clear_writer END
    FROM portcullis.encryption AS e
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION portcullis.mark_sealed(boolean) FROM PUBLIC;

UPDATE portcullis.compatibility SET oldest_writer = 3;

-- Ids of master keys with a space between.
ALTER TABLE portcullis.sidecar_reports ADD COLUMN masters text NOT NULL DEFAULT '';
ALTER TABLE portcullis.sidecars ADD COLUMN masters text NOT NULL DEFAULT '';

-- +goose Down
UPDATE portcullis.compatibility SET oldest_writer = 1;
DROP FUNCTION portcullis.mark_sealed(boolean);
DROP INDEX portcullis.user_keys_by_tenant, portcullis.permissions_by_tenant, portcullis.memberships_by_tenant;
ALTER TABLE portcullis.sidecars DROP COLUMN masters;
ALTER TABLE portcullis.sidecar_reports DROP COLUMN masters;
ALTER TABLE portcullis.audit DROP COLUMN sealed, DROP COLUMN user_index, DROP COLUMN key_id;
ALTER TABLE portcullis.user_keys DROP COLUMN seal_key_id;
ALTER TABLE portcullis.roles DROP COLUMN key_id;
DROP INDEX portcullis.permissions_by_index, portcullis.permissions_by_name;
ALTER TABLE portcullis.permissions ADD UNIQUE (tenant_id, role_id, name);
ALTER TABLE portcullis.permissions DROP COLUMN name_index, DROP COLUMN key_id;
ALTER TABLE portcullis.memberships DROP COLUMN key_id;
DROP TABLE portcullis.tenant_keys, portcullis.encryption_keys, portcullis.encryption;
DROP SEQUENCE portcullis.encryption_key_ids;
