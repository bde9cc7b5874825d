-- +goose Up
ALTER TABLE audit DROP COLUMN chain_prev;
ALTER TABLE audit DROP COLUMN chain_value;
ALTER TABLE audit ADD COLUMN chain_number INTEGER NOT NULL DEFAULT 0; -- 0: the row is in no chain
ALTER TABLE audit ADD COLUMN commitment BLOB CHECK (length(commitment) = 32);
ALTER TABLE audit ADD COLUMN chain_link BLOB CHECK (length(chain_link) = 32);

-- Whether what is done is recorded, and the secret of the chains, wrapped.
CREATE TABLE audit_state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    enabled  INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    wrapped  TEXT    NOT NULL, -- '': nothing is chained
    holder   TEXT    NOT NULL, -- the setting that holds the wrapping key
    master   TEXT    NOT NULL  -- that key's id
) STRICT;
INSERT INTO audit_state VALUES (1, 1, '', '', '');

-- The end of each tenant's chain.
CREATE TABLE audit_chains (
    tenant_id INTEGER PRIMARY KEY,
    number    INTEGER NOT NULL,
    link      BLOB    NOT NULL CHECK (length(link) = 32),
    row_id    INTEGER NOT NULL
) STRICT;

-- What stood before each tenant's chain, signed.
CREATE TABLE audit_anchors (
    tenant_id INTEGER PRIMARY KEY,
    row_count INTEGER NOT NULL, -- unchained ones
    last_row  INTEGER NOT NULL,
    digest    BLOB    NOT NULL CHECK (length(digest) = 32),
    number    INTEGER NOT NULL, -- of the last row that was pruned
    link      BLOB    NOT NULL CHECK (length(link) = 32),
    at        INTEGER NOT NULL, -- Unix microseconds
    mac       BLOB    NOT NULL CHECK (length(mac) = 32)
) STRICT;

-- +goose Down
DROP TABLE audit_anchors;
DROP TABLE audit_chains;
DROP TABLE audit_state;
ALTER TABLE audit DROP COLUMN chain_link;
ALTER TABLE audit DROP COLUMN commitment;
ALTER TABLE audit DROP COLUMN chain_number;
ALTER TABLE audit ADD COLUMN chain_prev BLOB;
ALTER TABLE audit ADD COLUMN chain_value BLOB;
