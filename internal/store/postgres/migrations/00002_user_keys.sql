-- A program that knows schema 1 alone still runs on this one: it takes every user
-- API key for unknown, and no tenant is strict until somebody makes it so.

-- +goose Up

ALTER TABLE portcullis.tenants ADD COLUMN strict_users boolean NOT NULL DEFAULT false;

CREATE SEQUENCE portcullis.user_key_ids;
CREATE TABLE portcullis.user_keys (
    id              bigint           PRIMARY KEY DEFAULT nextval('portcullis.user_key_ids'),
    key_id          text COLLATE "C" NOT NULL UNIQUE CHECK (length(key_id) = 36),
    tenant_id       bigint           NOT NULL REFERENCES portcullis.tenants (id),
    principal_index bytea            NOT NULL CHECK (octet_length(principal_index) = 16), -- of the user
    user_id         text COLLATE "C" NOT NULL CHECK (user_id <> ''),
    digest          bytea            NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    prefix          text             NOT NULL,
    label           text             NOT NULL,
    created_at      bigint           NOT NULL,
    expires_at      bigint           CHECK (expires_at > 0), -- NULL: never
    revoked_at      bigint,                                  -- NULL: live
    last_used_at    bigint                                   -- NULL: never
) WITH (fillfactor = 80);
-- Whether keys back a user is read with every grant, from this index alone.
CREATE INDEX user_keys_by_principal
    ON portcullis.user_keys (tenant_id, principal_index) INCLUDE (expires_at) WHERE revoked_at IS NULL;

-- +goose Down
DROP TABLE portcullis.user_keys;
DROP SEQUENCE portcullis.user_key_ids;
ALTER TABLE portcullis.tenants DROP COLUMN strict_users;
