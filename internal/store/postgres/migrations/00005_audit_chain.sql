-- An admin process that knows schema 4 alone does not run on this one: it would write
-- rows that are in no chain. Sidecars do not write the audit, and run on.

-- +goose Up
ALTER TABLE portcullis.audit
    DROP COLUMN chain_prev,
    DROP COLUMN chain_value,
    ADD COLUMN chain_number bigint NOT NULL DEFAULT 0, -- 0: the row is in no chain
    ADD COLUMN commitment bytea CHECK (octet_length(commitment) = 32),
    ADD COLUMN chain_link bytea CHECK (octet_length(chain_link) = 32);

-- Whether what is done is recorded, and the secret of the chains, wrapped.
CREATE TABLE portcullis.audit_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    enabled  boolean NOT NULL,
    wrapped  text    NOT NULL, -- '': nothing is chained
    holder   text    NOT NULL, -- the setting that holds the wrapping key
    master   text    NOT NULL  -- that key's id
);
INSERT INTO portcullis.audit_state VALUES (true, true, '', '', '');

-- The end of each tenant's chain.
CREATE TABLE portcullis.audit_chains (
    tenant_id bigint PRIMARY KEY,
    number    bigint NOT NULL,
    link      bytea  NOT NULL CHECK (octet_length(link) = 32),
    row_id    bigint NOT NULL
);

-- What stood before each tenant's chain, signed.
CREATE TABLE portcullis.audit_anchors (
    tenant_id bigint PRIMARY KEY,
    row_count bigint NOT NULL, -- unchained ones
    last_row  bigint NOT NULL,
    digest    bytea  NOT NULL CHECK (octet_length(digest) = 32),
    number    bigint NOT NULL, -- of the last row that was pruned
    link      bytea  NOT NULL CHECK (octet_length(link) = 32),
    at        bigint NOT NULL, -- Unix microseconds
    mac       bytea  NOT NULL CHECK (octet_length(mac) = 32)
);

UPDATE portcullis.compatibility SET oldest_writer = greatest(oldest_writer, 5);
UPDATE portcullis.encryption SET clear_writer = greatest(clear_writer, 5);

-- +goose Down
DROP TABLE portcullis.audit_anchors, portcullis.audit_chains, portcullis.audit_state;
ALTER TABLE portcullis.audit
    DROP COLUMN chain_number,
    DROP COLUMN commitment,
    DROP COLUMN chain_link,
    ADD COLUMN chain_prev bytea,
    ADD COLUMN chain_value bytea;
UPDATE portcullis.compatibility SET oldest_writer = least(oldest_writer, 4);
UPDATE portcullis.encryption SET clear_writer = least(clear_writer, 4);
