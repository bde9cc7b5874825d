-- +goose Up

-- The last committed admin write. Every write updates this row first, so that
-- writes queue on it and revision order is commit order.
CREATE TABLE revision (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    number   INTEGER NOT NULL CHECK (number > 0),
    tag      BLOB    NOT NULL CHECK (length(tag) = 16)
) STRICT;

CREATE TABLE revision_log (
    revision     INTEGER PRIMARY KEY,
    tag          BLOB    NOT NULL CHECK (length(tag) = 16),
    committed_at INTEGER NOT NULL, -- this and all times: Unix nanoseconds
    ack          INTEGER NOT NULL CHECK (ack IN (0, 1))
) STRICT;

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

-- AUTOINCREMENT, here and below: an id that was once handed out is never handed
-- out again, whatever is deleted.
CREATE TABLE tenants (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL UNIQUE CHECK (name <> ''),
    admitted   INTEGER NOT NULL CHECK (admitted IN (0, 1)),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE roles (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   INTEGER NOT NULL REFERENCES tenants (id),
    name        TEXT    NOT NULL CHECK (name <> ''),
    description TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id)
) STRICT;

-- The links carry the tenant in their foreign keys: the database itself refuses
-- one that would cross from tenant to tenant.
CREATE TABLE role_parents (
    tenant_id INTEGER NOT NULL,
    role_id   INTEGER NOT NULL,
    parent_id INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, role_id, parent_id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, parent_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE,
    CHECK (role_id <> parent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX role_parents_by_parent ON role_parents (tenant_id, parent_id);

CREATE TABLE permissions (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL,
    role_id   INTEGER NOT NULL,
    name      TEXT    NOT NULL CHECK (name <> ''),
    UNIQUE (tenant_id, role_id, name),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE memberships (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id       INTEGER NOT NULL,
    principal_index BLOB    NOT NULL CHECK (length(principal_index) = 16),
    kind            INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
    principal_id    TEXT    NOT NULL CHECK (principal_id <> ''),
    role_id         INTEGER NOT NULL,
    expires_at      INTEGER CHECK (expires_at > 0), -- NULL: never
    UNIQUE (tenant_id, principal_index, role_id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX memberships_by_role ON memberships (tenant_id, role_id);

CREATE TABLE client_keys (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id    INTEGER NOT NULL REFERENCES tenants (id),
    name         TEXT    NOT NULL CHECK (name <> ''),
    digest       BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    prefix       TEXT    NOT NULL,
    scopes       TEXT    NOT NULL, -- words with a space between
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER CHECK (expires_at > 0), -- NULL: never
    revoked_at   INTEGER,                        -- NULL: live
    last_used_at INTEGER                         -- NULL: never
) STRICT;
CREATE INDEX client_keys_by_name ON client_keys (tenant_id, name);

-- What sidecars append. They write nothing else; an admin process folds it in.
CREATE TABLE sidecar_reports (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    sidecar       TEXT    NOT NULL CHECK (sidecar <> ''),
    kind          INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),
    reported_at   INTEGER NOT NULL,
    applied       INTEGER NOT NULL,
    staleness     INTEGER NOT NULL, -- nanoseconds
    policy_digest TEXT    NOT NULL,
    uses          BLOB    NOT NULL  -- 40 bytes each: digest, time as big-endian
) STRICT;

CREATE TABLE sidecars (
    id            TEXT    PRIMARY KEY,
    last_seen     INTEGER NOT NULL,
    applied       INTEGER NOT NULL,
    staleness     INTEGER NOT NULL,
    policy_digest TEXT    NOT NULL,
    stopped       INTEGER NOT NULL CHECK (stopped IN (0, 1))
) STRICT, WITHOUT ROWID;

-- No foreign keys: a row outlives whatever it tells of.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    time        INTEGER NOT NULL,
    tenant_id   INTEGER NOT NULL, -- 0: of no tenant
    actor       TEXT    NOT NULL,
    user        TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    resource    TEXT    NOT NULL,
    before      TEXT    NOT NULL, -- JSON or empty, as are the next two
    after       TEXT    NOT NULL,
    details     TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    success     INTEGER NOT NULL CHECK (success IN (0, 1)),
    address     TEXT    NOT NULL,
    user_agent  TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    chain_prev  BLOB, -- NULL: the row is in no chain
    chain_value BLOB
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant_id, id);
CREATE INDEX audit_by_action ON audit (tenant_id, action COLLATE NOCASE, id);

INSERT INTO tenants (name, admitted, created_at)
VALUES ('default', 1, CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000000);

-- A database begins at revision 1, with a tag of its own: the zero revision
-- precedes all, and two fresh databases are not one history.
INSERT INTO revision (only_row, number, tag) VALUES (1, 1, randomblob(16));
INSERT INTO revision_log (revision, tag, committed_at, ack)
SELECT r.number, r.tag, t.created_at, 0 FROM revision AS r, tenants AS t;

-- +goose Down
DROP TABLE audit;
DROP TABLE sidecars;
DROP TABLE sidecar_reports;
DROP TABLE client_keys;
DROP TABLE memberships;
DROP TABLE permissions;
DROP TABLE role_parents;
DROP TABLE roles;
DROP TABLE tenants;
DROP TABLE change_log;
DROP TABLE revision_log;
DROP TABLE revision;
