-- The schema `portcullis` itself is there already: goose's own table lives in it.

-- +goose Up

-- The last committed admin write. Every write locks this row first, so that
-- writes queue on it and revision order is commit order. The low fill factor
-- keeps its updates on one page.
CREATE TABLE portcullis.revision (
    only_row     boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    number       bigint      NOT NULL CHECK (number > 0),
    tag          bytea       NOT NULL CHECK (octet_length(tag) = 16),
    committed_at timestamptz NOT NULL
) WITH (fillfactor = 10);

-- Which programs run on this schema: those that know at least this version of
-- it. A migration that an older program cannot live with raises the numbers.
CREATE TABLE portcullis.compatibility (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_reader bigint  NOT NULL,
    oldest_writer bigint  NOT NULL
);

CREATE TABLE portcullis.revision_log (
    revision     bigint      PRIMARY KEY,
    tag          bytea       NOT NULL CHECK (octet_length(tag) = 16),
    committed_at timestamptz NOT NULL,
    ack          boolean     NOT NULL
);

CREATE TABLE portcullis.change_log (
    revision        bigint   NOT NULL,
    n               integer  NOT NULL,
    kind            smallint NOT NULL CHECK (kind BETWEEN 1 AND 5),
    tenant_id       bigint   NOT NULL,
    principal_index bytea    CHECK (octet_length(principal_index) = 16),
    digest          bytea    CHECK (octet_length(digest) = 32),
    gone            boolean  NOT NULL,
    PRIMARY KEY (revision, n)
);

-- Sequences hand out each id once, whatever is deleted or rolled back. Names
-- compare by bytes (COLLATE "C"): the same order as in SQLite, and an index that
-- an upgrade of the operating system's locales cannot corrupt.
CREATE SEQUENCE portcullis.tenant_ids;
CREATE TABLE portcullis.tenants (
    id         bigint           PRIMARY KEY DEFAULT nextval('portcullis.tenant_ids'),
    name       text COLLATE "C" NOT NULL UNIQUE CHECK (name <> ''),
    admitted   boolean          NOT NULL,
    created_at bigint           NOT NULL -- this and all such times: Unix nanoseconds
);

CREATE SEQUENCE portcullis.role_ids;
CREATE TABLE portcullis.roles (
    id          bigint           PRIMARY KEY DEFAULT nextval('portcullis.role_ids'),
    tenant_id   bigint           NOT NULL REFERENCES portcullis.tenants (id),
    name        text COLLATE "C" NOT NULL CHECK (name <> ''),
    description text             NOT NULL,
    created_at  bigint           NOT NULL,
    UNIQUE (tenant_id, name),
    UNIQUE (tenant_id, id)
);

-- The links carry the tenant in their foreign keys: the database itself refuses
-- one that would cross from tenant to tenant.
CREATE TABLE portcullis.role_parents (
    tenant_id bigint NOT NULL,
    role_id   bigint NOT NULL,
    parent_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, role_id, parent_id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES portcullis.roles (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, parent_id) REFERENCES portcullis.roles (tenant_id, id) ON DELETE CASCADE,
    CHECK (role_id <> parent_id)
);
CREATE INDEX role_parents_by_parent ON portcullis.role_parents (tenant_id, parent_id);

CREATE SEQUENCE portcullis.permission_ids;
CREATE TABLE portcullis.permissions (
    id        bigint           PRIMARY KEY DEFAULT nextval('portcullis.permission_ids'),
    tenant_id bigint           NOT NULL,
    role_id   bigint           NOT NULL,
    name      text COLLATE "C" NOT NULL CHECK (name <> ''),
    UNIQUE (tenant_id, role_id, name),
    FOREIGN KEY (tenant_id, role_id) REFERENCES portcullis.roles (tenant_id, id) ON DELETE CASCADE
);

CREATE SEQUENCE portcullis.membership_ids;
CREATE TABLE portcullis.memberships (
    id              bigint           PRIMARY KEY DEFAULT nextval('portcullis.membership_ids'),
    tenant_id       bigint           NOT NULL,
    principal_index bytea            NOT NULL CHECK (octet_length(principal_index) = 16),
    kind            smallint         NOT NULL CHECK (kind BETWEEN 1 AND 3),
    principal_id    text COLLATE "C" NOT NULL CHECK (principal_id <> ''),
    role_id         bigint           NOT NULL,
    expires_at      bigint           CHECK (expires_at > 0), -- NULL: never
    FOREIGN KEY (tenant_id, role_id) REFERENCES portcullis.roles (tenant_id, id) ON DELETE CASCADE
);
-- A grant is read from this index alone.
CREATE UNIQUE INDEX memberships_by_principal
    ON portcullis.memberships (tenant_id, principal_index, role_id) INCLUDE (expires_at);
CREATE INDEX memberships_by_role ON portcullis.memberships (tenant_id, role_id);

CREATE SEQUENCE portcullis.client_key_ids;
CREATE TABLE portcullis.client_keys (
    id           bigint           PRIMARY KEY DEFAULT nextval('portcullis.client_key_ids'),
    tenant_id    bigint           NOT NULL REFERENCES portcullis.tenants (id),
    name         text COLLATE "C" NOT NULL CHECK (name <> ''),
    digest       bytea            NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    prefix       text             NOT NULL,
    scopes       text             NOT NULL, -- words with a space between
    created_at   bigint           NOT NULL,
    expires_at   bigint           CHECK (expires_at > 0), -- NULL: never
    revoked_at   bigint,                                  -- NULL: live
    last_used_at bigint                                   -- NULL: never
) WITH (fillfactor = 80);
CREATE INDEX client_keys_by_name ON portcullis.client_keys (tenant_id, name);

-- What sidecars append. They write nothing else; an admin process folds it in.
-- An identity column needs no right on a sequence, so INSERT is all that a
-- sidecar has to be granted.
CREATE TABLE portcullis.sidecar_reports (
    id            bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sidecar       text COLLATE "C" NOT NULL CHECK (sidecar <> ''),
    kind          smallint         NOT NULL CHECK (kind BETWEEN 1 AND 4),
    reported_at   bigint           NOT NULL,
    applied       bigint           NOT NULL,
    staleness     bigint           NOT NULL, -- nanoseconds
    policy_digest text             NOT NULL,
    use_digests   bytea[]          NOT NULL,
    use_times     bigint[]         NOT NULL CHECK (cardinality(use_times) = cardinality(use_digests))
);

CREATE TABLE portcullis.sidecars (
    id            text COLLATE "C" PRIMARY KEY,
    last_report   bigint           NOT NULL, -- the id of the newest report folded in
    last_seen     bigint           NOT NULL,
    applied       bigint           NOT NULL,
    staleness     bigint           NOT NULL,
    policy_digest text             NOT NULL,
    stopped       boolean          NOT NULL
) WITH (fillfactor = 50);

-- By month. No foreign keys: a row outlives whatever it tells of. JSON stays
-- text, byte for byte, for the chain that commits to it.
CREATE SEQUENCE portcullis.audit_ids;
CREATE TABLE portcullis.audit (
    id          bigint           NOT NULL DEFAULT nextval('portcullis.audit_ids'),
    at          timestamptz      NOT NULL,
    tenant_id   bigint           NOT NULL, -- 0: of no tenant
    actor       text             NOT NULL,
    about       text             NOT NULL,
    action      text COLLATE "C" NOT NULL,
    resource    text             NOT NULL,
    before      text             NOT NULL, -- JSON or empty, as are the next two
    after       text             NOT NULL,
    details     text             NOT NULL,
    outcome     text             NOT NULL,
    success     boolean          NOT NULL,
    address     text             NOT NULL,
    user_agent  text             NOT NULL,
    request_id  text             NOT NULL,
    revision    bigint           NOT NULL,
    chain_prev  bytea, -- NULL: the row is in no chain
    chain_value bytea,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX audit_by_tenant ON portcullis.audit (tenant_id, id);
CREATE INDEX audit_by_action ON portcullis.audit (tenant_id, upper(action), id);

-- A row of a month that was not provided for lands here: no write fails for a
-- missing partition.
CREATE TABLE portcullis.audit_default PARTITION OF portcullis.audit DEFAULT;

-- ensure_audit_partitions makes the partitions of the given number of months,
-- from the month of `first` on, and returns how many were new. Rows that fell
-- into audit_default meanwhile are moved. It runs with its owner's rights, so
-- that the admin process can provide for next month and yet owns no table.
-- +goose StatementBegin
CREATE FUNCTION portcullis.ensure_audit_partitions(first date, months integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $$
DECLARE
    month  date := make_date(extract(year FROM first)::integer, extract(month FROM first)::integer, 1);
    since  timestamptz;
    until  timestamptz;
    part   text;
    made   integer := 0;
BEGIN
    IF months IS NULL OR months NOT BETWEEN 1 AND 120 THEN
        RAISE EXCEPTION 'months: % is outside 1 to 120', months;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('portcullis.ensure_audit_partitions', 0));
    FOR i IN 1 .. months LOOP
        part  := 'audit_' || to_char(month, 'YYYY_MM');
        since := month::timestamp AT TIME ZONE 'UTC';
        month := (month + interval '1 month')::date;
        until := month::timestamp AT TIME ZONE 'UTC';
        CONTINUE WHEN to_regclass('portcullis.' || part) IS NOT NULL;
        -- Attaching an existing table locks the parent less than PARTITION OF.
        EXECUTE format('CREATE TABLE portcullis.%I (LIKE portcullis.audit INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
        LOCK TABLE portcullis.audit_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('WITH moved AS (DELETE FROM portcullis.audit_default WHERE at >= %L AND at < %L RETURNING *)'
            ' INSERT INTO portcullis.%I SELECT * FROM moved', since, until, part);
        EXECUTE format('ALTER TABLE portcullis.audit ATTACH PARTITION portcullis.%I FOR VALUES FROM (%L) TO (%L)', part, since, until);
        made := made + 1;
    END LOOP;
    RETURN made;
END;
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION portcullis.ensure_audit_partitions(date, integer) FROM PUBLIC;
SELECT portcullis.ensure_audit_partitions((now() AT TIME ZONE 'UTC')::date, 4);

INSERT INTO portcullis.compatibility (oldest_reader, oldest_writer) VALUES (1, 1);
INSERT INTO portcullis.tenants (name, admitted, created_at)
VALUES ('default', true, (extract(epoch FROM now()) * 1000000)::bigint * 1000);

-- A database begins at revision 1, with a tag of its own: the zero revision
-- precedes all, and two fresh databases are not one history.
INSERT INTO portcullis.revision (number, tag, committed_at) VALUES (1, uuid_send(gen_random_uuid()), now());
INSERT INTO portcullis.revision_log (revision, tag, committed_at, ack)
SELECT number, tag, committed_at, false FROM portcullis.revision;

-- +goose Down
DROP FUNCTION portcullis.ensure_audit_partitions(date, integer);
DROP TABLE portcullis.audit, portcullis.sidecars, portcullis.sidecar_reports, portcullis.client_keys,
    portcullis.memberships, portcullis.permissions, portcullis.role_parents, portcullis.roles, portcullis.tenants,
    portcullis.change_log, portcullis.revision_log, portcullis.compatibility, portcullis.revision;
DROP SEQUENCE portcullis.audit_ids, portcullis.client_key_ids, portcullis.membership_ids, portcullis.permission_ids,
    portcullis.role_ids, portcullis.tenant_ids;
