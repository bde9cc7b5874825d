-- +goose Up

ALTER TABLE tenants ADD COLUMN strict_users INTEGER NOT NULL DEFAULT 0 CHECK (strict_users IN (0, 1));

CREATE TABLE user_keys (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id          TEXT    NOT NULL UNIQUE CHECK (length(key_id) = 36),
    tenant_id       INTEGER NOT NULL REFERENCES tenants (id),
    principal_index BLOB    NOT NULL CHECK (length(principal_index) = 16), -- of the user
    user_id         TEXT    NOT NULL CHECK (user_id <> ''),
    digest          BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    prefix          TEXT    NOT NULL,
    label           TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER CHECK (expires_at > 0), -- NULL: never
    revoked_at      INTEGER,                        -- NULL: live
    last_used_at    INTEGER                         -- NULL: never
) STRICT;
-- Whether keys back a user is read with every grant, from this index alone.
CREATE INDEX user_keys_by_principal ON user_keys (tenant_id, principal_index, revoked_at, expires_at);

-- +goose Down
DROP TABLE user_keys;
ALTER TABLE tenants DROP COLUMN strict_users;
