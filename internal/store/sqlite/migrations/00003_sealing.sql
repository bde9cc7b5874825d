-- +goose Up

-- One row from the first sealing on. Without it, every field is in clear.
CREATE TABLE encryption (
    only_row        INTEGER PRIMARY KEY CHECK (only_row = 1),
    key_check       TEXT    NOT NULL, -- a known text, sealed under the master
    master          TEXT    NOT NULL, -- id of the master that wraps
    rotation        INTEGER NOT NULL DEFAULT 0 CHECK (rotation BETWEEN 0 AND 3), -- under way; 0: none
    rotation_before INTEGER NOT NULL DEFAULT 0 -- a deep rotation replaces the keys up to this id
) STRICT;

-- The keys of tenants, wrapped under a master. No foreign key: tenant 0 stands for
-- the audit rows that belong to no tenant.
CREATE TABLE encryption_keys (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id  INTEGER NOT NULL,
    wrapped    TEXT    NOT NULL,
    master     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Which keys a tenant's rows are under; 0 is in clear, and so is a tenant without
-- a row here.
CREATE TABLE tenant_keys (
    tenant_id     INTEGER PRIMARY KEY,
    key_id        INTEGER NOT NULL, -- new rows
    former_key_id INTEGER           -- NULL: no rotation is under way
) STRICT;

-- key_id, here and below: what the row's sealed columns are under; 0: in clear.
ALTER TABLE memberships ADD COLUMN key_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE permissions ADD COLUMN key_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE permissions ADD COLUMN name_index BLOB CHECK (length(name_index) = 16); -- NULL: in clear
CREATE UNIQUE INDEX permissions_by_index ON permissions (tenant_id, role_id, name_index);
ALTER TABLE roles ADD COLUMN key_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE user_keys ADD COLUMN seal_key_id INTEGER NOT NULL DEFAULT 0; -- its key_id is the API key's public name
ALTER TABLE audit ADD COLUMN key_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE audit ADD COLUMN user_index BLOB CHECK (length(user_index) = 16); -- NULL: in clear
ALTER TABLE audit ADD COLUMN sealed TEXT; -- NULL: in clear

-- A rotation goes through a tenant's rows by id; roles and the audit have such an
-- index already (an index on a tenant alone goes on by id).
CREATE INDEX memberships_by_tenant ON memberships (tenant_id);
CREATE INDEX permissions_by_tenant ON permissions (tenant_id);
CREATE INDEX user_keys_by_tenant ON user_keys (tenant_id);

-- Ids of master keys with a space between.
ALTER TABLE sidecar_reports ADD COLUMN masters TEXT NOT NULL DEFAULT '';
ALTER TABLE sidecars ADD COLUMN masters TEXT NOT NULL DEFAULT '';

-- +goose Down
DROP INDEX user_keys_by_tenant;
DROP INDEX permissions_by_tenant;
DROP INDEX memberships_by_tenant;
ALTER TABLE sidecars DROP COLUMN masters;
ALTER TABLE sidecar_reports DROP COLUMN masters;
ALTER TABLE audit DROP COLUMN sealed;
ALTER TABLE audit DROP COLUMN user_index;
ALTER TABLE audit DROP COLUMN key_id;
ALTER TABLE user_keys DROP COLUMN seal_key_id;
ALTER TABLE roles DROP COLUMN key_id;
DROP INDEX permissions_by_index;
ALTER TABLE permissions DROP COLUMN name_index;
ALTER TABLE permissions DROP COLUMN key_id;
ALTER TABLE memberships DROP COLUMN key_id;
DROP TABLE tenant_keys;
DROP TABLE encryption_keys;
DROP TABLE encryption;
