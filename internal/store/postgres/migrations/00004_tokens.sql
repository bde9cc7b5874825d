-- A program that knows schema 3 alone still runs on this one until something is
-- denied or signed with a published key: it would let denied tokens in. mark_tokens
-- raises the numbers in portcullis.compatibility then.

-- +goose Up

-- Access tokens that are refused before they expire. A subject's entry refuses the
-- tokens that were issued at or before a moment.
CREATE SEQUENCE portcullis.deny_list_ids;
CREATE TABLE portcullis.deny_list (
    id              bigint   PRIMARY KEY DEFAULT nextval('portcullis.deny_list_ids'),
    kind            smallint NOT NULL CHECK (kind BETWEEN 1 AND 3), -- token, subject, signing key
    tenant_id       bigint   NOT NULL, -- 0: a signing key
    issuer          text     NOT NULL,
    value           text     NOT NULL, -- jti or kid; of a subject '', which is in the next four
    principal_kind  smallint CHECK (principal_kind BETWEEN 1 AND 3),
    principal_index bytea    CHECK (octet_length(principal_index) = 16),
    principal_id    text,
    key_id          bigint   NOT NULL DEFAULT 0,
    digest          bytea    NOT NULL UNIQUE CHECK (octet_length(digest) = 32), -- what a sidecar looks up
    issued_before   bigint   NOT NULL DEFAULT 0,
    created_at      bigint   NOT NULL,
    expires_at      bigint   NOT NULL
);
CREATE INDEX deny_list_by_tenant ON portcullis.deny_list (tenant_id, id);
CREATE INDEX deny_list_by_expiry ON portcullis.deny_list (expires_at);

ALTER TABLE portcullis.change_log
    DROP CONSTRAINT change_log_kind_check,
    ADD CONSTRAINT change_log_kind_check CHECK (kind BETWEEN 1 AND 7),
    ADD COLUMN issued_before bigint NOT NULL DEFAULT 0, -- of a denial
    ADD COLUMN expires_at    bigint NOT NULL DEFAULT 0; -- of a denial

-- The public halves of the keys that sign our own access tokens.
CREATE TABLE portcullis.signing_keys (
    kid        text COLLATE "C" PRIMARY KEY,
    algorithm  text   NOT NULL,
    jwk        text   NOT NULL,
    created_at bigint NOT NULL,
    signs_at   bigint, -- NULL: published, and signs nothing yet
    expires_at bigint  -- NULL: verifies until it is retired
);

-- Refresh tokens of one grant: each use replaces the token by the next, and a token
-- that is used again ends the family.
CREATE SEQUENCE portcullis.refresh_family_ids;
CREATE TABLE portcullis.refresh_families (
    id              bigint PRIMARY KEY DEFAULT nextval('portcullis.refresh_family_ids'),
    family          bytea  NOT NULL UNIQUE CHECK (octet_length(family) = 16),
    tenant_id       bigint NOT NULL REFERENCES portcullis.tenants (id),
    client          text   NOT NULL, -- the name of the client key that exchanged
    principal_index bytea  NOT NULL CHECK (octet_length(principal_index) = 16), -- of the user
    user_id         text   NOT NULL,
    key_id          bigint NOT NULL DEFAULT 0,
    scope           text   NOT NULL,
    created_at      bigint NOT NULL,
    expires_at      bigint NOT NULL,
    revoked_at      bigint
);
CREATE INDEX refresh_families_by_principal ON portcullis.refresh_families (tenant_id, principal_index);
CREATE INDEX refresh_families_by_tenant ON portcullis.refresh_families (tenant_id, id);
CREATE INDEX refresh_families_by_client ON portcullis.refresh_families (tenant_id, client);
CREATE TABLE portcullis.refresh_tokens (
    digest         bytea  PRIMARY KEY CHECK (octet_length(digest) = 32),
    family_id      bigint NOT NULL REFERENCES portcullis.refresh_families (id) ON DELETE CASCADE,
    access_issuer  text   NOT NULL, -- of the access token that was made with it
    access_id      text   NOT NULL,
    access_expires bigint NOT NULL,
    created_at     bigint NOT NULL,
    used_at        bigint -- NULL: it is the family's live one
);
CREATE INDEX refresh_tokens_by_family ON portcullis.refresh_tokens (family_id);

-- Replies that hold a secret, for a retry: sealed under what only the caller holds.
CREATE TABLE portcullis.replays (
    digest     bytea  PRIMARY KEY CHECK (octet_length(digest) = 32), -- of the presented key and its Idempotency-Key
    tenant_id  bigint NOT NULL,
    sealed     text   NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX replays_by_expiry ON portcullis.replays (expires_at);

-- When people mean to replace a client's secret; NULL: not planned.
ALTER TABLE portcullis.client_keys ADD COLUMN rotate_at bigint;

-- How far an import from another program has come.
CREATE TABLE portcullis.imports (
    source     text COLLATE "C" PRIMARY KEY, -- a fingerprint of where the rows come from
    cursor     text    NOT NULL,
    started_at bigint  NOT NULL,
    updated_at bigint  NOT NULL,
    done       boolean NOT NULL
);

-- mark_tokens keeps out programs that would ignore the deny-list. It runs with its
-- owner's rights, as mark_sealed does.
-- +goose StatementBegin
CREATE FUNCTION portcullis.mark_tokens() RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE portcullis.compatibility
    SET oldest_reader = greatest(oldest_reader, 4), oldest_writer = greatest(oldest_writer, 4)
    WHERE oldest_reader < 4 OR oldest_writer < 4;
    UPDATE portcullis.encryption
    SET clear_reader = greatest(clear_reader, 4), clear_writer = greatest(clear_writer, 4)
    WHERE clear_reader < 4 OR clear_writer < 4
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION portcullis.mark_tokens() FROM PUBLIC;

-- +goose Down
UPDATE portcullis.compatibility SET oldest_reader = least(oldest_reader, 3), oldest_writer = least(oldest_writer, 3);
DROP FUNCTION portcullis.mark_tokens();
DROP TABLE portcullis.imports, portcullis.replays, portcullis.refresh_tokens, portcullis.refresh_families,
    portcullis.signing_keys, portcullis.deny_list;
DROP SEQUENCE portcullis.refresh_family_ids, portcullis.deny_list_ids;
ALTER TABLE portcullis.client_keys DROP COLUMN rotate_at;
DELETE FROM portcullis.change_log WHERE kind > 5;
ALTER TABLE portcullis.change_log
    DROP COLUMN expires_at, DROP COLUMN issued_before,
    DROP CONSTRAINT change_log_kind_check,
    ADD CONSTRAINT change_log_kind_check CHECK (kind BETWEEN 1 AND 5);
