-- +goose Up

-- Access tokens that are refused before they expire. A subject's entry refuses the
-- tokens that were issued at or before a moment.
CREATE TABLE deny_list (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    kind            INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3), -- token, subject, signing key
    tenant_id       INTEGER NOT NULL, -- 0: a signing key
    issuer          TEXT    NOT NULL,
    value           TEXT    NOT NULL, -- jti or kid; of a subject '', which is in the next four
    principal_kind  INTEGER CHECK (principal_kind BETWEEN 1 AND 3),
    principal_index BLOB    CHECK (length(principal_index) = 16),
    principal_id    TEXT,
    key_id          INTEGER NOT NULL DEFAULT 0,
    digest          BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32), -- what a sidecar looks up
    issued_before   INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX deny_list_by_tenant ON deny_list (tenant_id, id);
CREATE INDEX deny_list_by_expiry ON deny_list (expires_at);

-- SQLite cannot change a CHECK: the log is short-lived, and readers of a history
-- that is gone load in full.
DROP TABLE change_log;
CREATE TABLE change_log (
    revision        INTEGER NOT NULL,
    n               INTEGER NOT NULL,
    kind            INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 7),
    tenant_id       INTEGER NOT NULL,
    principal_index BLOB CHECK (length(principal_index) = 16),
    digest          BLOB CHECK (length(digest) = 32),
    gone            INTEGER NOT NULL CHECK (gone IN (0, 1)),
    issued_before   INTEGER NOT NULL DEFAULT 0, -- of a denial
    expires_at      INTEGER NOT NULL DEFAULT 0, -- of a denial
    PRIMARY KEY (revision, n)
) STRICT, WITHOUT ROWID;
DELETE FROM revision_log WHERE revision < (SELECT number FROM revision);

-- The public halves of the keys that sign our own access tokens.
CREATE TABLE signing_keys (
    kid        TEXT    PRIMARY KEY,
    algorithm  TEXT    NOT NULL,
    jwk        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    signs_at   INTEGER, -- NULL: published, and signs nothing yet
    expires_at INTEGER  -- NULL: verifies until it is retired
) STRICT, WITHOUT ROWID;

-- Refresh tokens of one grant: each use replaces the token by the next, and a token
-- that is used again ends the family.
CREATE TABLE refresh_families (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    family          BLOB    NOT NULL UNIQUE CHECK (length(family) = 16),
    tenant_id       INTEGER NOT NULL REFERENCES tenants (id),
    client          TEXT    NOT NULL, -- the name of the client key that exchanged
    principal_index BLOB    NOT NULL CHECK (length(principal_index) = 16), -- of the user
    user_id         TEXT    NOT NULL,
    key_id          INTEGER NOT NULL DEFAULT 0,
    scope           TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL,
    revoked_at      INTEGER
) STRICT;
CREATE INDEX refresh_families_by_principal ON refresh_families (tenant_id, principal_index);
CREATE INDEX refresh_families_by_tenant ON refresh_families (tenant_id);
CREATE INDEX refresh_families_by_client ON refresh_families (tenant_id, client);
CREATE TABLE refresh_tokens (
    digest         BLOB    PRIMARY KEY CHECK (length(digest) = 32),
    family_id      INTEGER NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    access_issuer  TEXT    NOT NULL, -- of the access token that was made with it
    access_id      TEXT    NOT NULL,
    access_expires INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    used_at        INTEGER -- NULL: it is the family's live one
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);

-- Replies that hold a secret, for a retry: sealed under what only the caller holds.
CREATE TABLE replays (
    digest     BLOB    PRIMARY KEY CHECK (length(digest) = 32), -- of the presented key and its Idempotency-Key
    tenant_id  INTEGER NOT NULL,
    sealed     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX replays_by_expiry ON replays (expires_at);

-- When people mean to replace a client's secret; NULL: not planned.
ALTER TABLE client_keys ADD COLUMN rotate_at INTEGER;

-- How far an import from another program has come.
CREATE TABLE imports (
    source     TEXT    PRIMARY KEY, -- a fingerprint of where the rows come from
    cursor     TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    done       INTEGER NOT NULL CHECK (done IN (0, 1))
) STRICT, WITHOUT ROWID;

-- +goose Down
DROP TABLE imports;
DROP TABLE replays;
DROP TABLE refresh_tokens;
DROP TABLE refresh_families;
DROP TABLE signing_keys;
DROP TABLE deny_list;
ALTER TABLE client_keys DROP COLUMN rotate_at;
DROP TABLE change_log;
CREATE TABLE change_log (
    revision        INTEGER NOT NULL,
    n               INTEGER NOT NULL,
    kind            INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 5),
    tenant_id       INTEGER NOT NULL,
    principal_index BLOB CHECK (length(principal_index) = 16),
    digest          BLOB CHECK (length(digest) = 32),
    gone            INTEGER NOT NULL CHECK (gone IN (0, 1)),
    PRIMARY KEY (revision, n)
) STRICT, WITHOUT ROWID;
DELETE FROM revision_log WHERE revision < (SELECT number FROM revision);
