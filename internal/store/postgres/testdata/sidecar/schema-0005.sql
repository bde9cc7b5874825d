-- What a sidecar of schema 5 runs, in its order, with arguments. Written by
-- go test ./internal/store/postgres -run TestSidecarStatements -update
-- while that is the program's own schema, and never changed afterwards.

-- call: Open
-- $1: portcullis.goose_db_version
-- returns: bool; rows: some
SELECT to_regclass($1) IS NOT NULL;

-- call: Open
-- returns: int8; rows: some
SELECT coalesce(max(version_id), 0) FROM portcullis.goose_db_version WHERE is_applied;

-- call: Open
-- returns: int8, int8; rows: some
SELECT oldest_reader, oldest_writer FROM portcullis.compatibility;

-- call: Open
-- returns: ; rows: none
SELECT key_check, master FROM portcullis.encryption;

-- call: Head
-- returns: int8, bytea, int8; rows: some
SELECT r.number, r.tag, (SELECT coalesce(max(v.version_id), 0) FROM portcullis.goose_db_version v WHERE v.is_applied)
FROM portcullis.revision r;

-- call: Bootstrap
-- returns: ; rows: none
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- call: Bootstrap
-- returns: int8, bytea; rows: some
SELECT number, tag FROM portcullis.revision;

-- call: Bootstrap
-- returns: int8, text, bool, bool, int8, int8; rows: some
SELECT t.id, t.name, t.admitted, t.strict_users, t.created_at, coalesce(e.key_id, 0) FROM portcullis.tenants t LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = t.id ORDER BY t.name;

-- call: Bootstrap
-- $1: 1800000000000000000
-- returns: ; rows: none
SELECT digest, tenant_id, issued_before, expires_at FROM portcullis.deny_list WHERE expires_at > $1 ORDER BY id;

-- call: Bootstrap
-- $1: 1800000000000000000
-- returns: ; rows: none
SELECT kid, algorithm, jwk, created_at, coalesce(signs_at, 0), coalesce(expires_at, 0) FROM portcullis.signing_keys WHERE expires_at IS NULL OR expires_at > $1 ORDER BY created_at, kid;

-- call: Bootstrap
-- $1: 1800000000000000000
-- returns: bytea, int8; rows: some
SELECT digest, coalesce(expires_at, 0) FROM portcullis.client_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)
UNION ALL
SELECT digest, coalesce(expires_at, 0) FROM portcullis.user_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1);

-- call: Bootstrap
-- returns: ; rows: none
COMMIT;

-- call: Roles
-- $1: 1
-- returns: int8, bytea, int8, int8, int8, text, _int8, _int8, _text, _int8; rows: some
SELECT r.number, r.tag, e.key_id, e.former_key_id, o.id, o.name, p.rows, p.keys, p.names, i.ids
FROM portcullis.revision r
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN portcullis.roles o ON o.tenant_id = $1
LEFT JOIN (SELECT role_id, array_agg(id ORDER BY id) AS rows, array_agg(key_id ORDER BY id) AS keys, array_agg(name ORDER BY id) AS names FROM portcullis.permissions WHERE tenant_id = $1 GROUP BY role_id) p ON p.role_id = o.id
LEFT JOIN (SELECT role_id, array_agg(parent_id ORDER BY parent_id) AS ids FROM portcullis.role_parents WHERE tenant_id = $1 GROUP BY role_id) i ON i.role_id = o.id
ORDER BY o.id;

-- call: Delta
-- returns: ; rows: none
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

-- call: Delta
-- $1: 1
-- $2: \x00000000000000000000000000000000
-- returns: int8, bytea, bool, bool; rows: some
SELECT r.number, r.tag,
       (r.number = $1 AND r.tag = $2) OR EXISTS (SELECT FROM portcullis.revision_log l WHERE l.revision = $1 AND l.tag = $2),
       EXISTS (SELECT FROM portcullis.revision_log l WHERE l.revision > $1 AND l.ack)
FROM portcullis.revision r;

-- call: Delta
-- $1: 1
-- $2: 10001
-- returns: int8, int2, int8, bytea, bytea, bool, int8, int8; rows: some
SELECT revision, kind, tenant_id, principal_index, digest, gone, issued_before, expires_at
FROM portcullis.change_log WHERE revision > $1 ORDER BY revision, n LIMIT $2;

-- call: Delta
-- $1: 1
-- $2: 1024
-- returns: int8, bytea; rows: some
SELECT revision, tag FROM portcullis.revision_log WHERE revision > $1 ORDER BY revision DESC LIMIT $2;

-- call: Delta
-- $1: 1
-- returns: int8, text, bool, bool, int8, int8; rows: some
SELECT t.id, t.name, t.admitted, t.strict_users, t.created_at, coalesce(e.key_id, 0) FROM portcullis.tenants t LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = t.id
WHERE t.id IN (SELECT c.tenant_id FROM portcullis.change_log c WHERE c.revision > $1) ORDER BY t.id;

-- call: Delta
-- $1: 1
-- $2: 2
-- $3: {1}
-- returns: int8, int8, int8, int8, text, _int8, _int8, _text, _int8; rows: some
WITH changed AS MATERIALIZED (
    SELECT DISTINCT c.tenant_id FROM portcullis.change_log c
    WHERE c.revision > $1 AND c.kind = $2 AND c.tenant_id = ANY ($3)
)
SELECT c.tenant_id, e.key_id, e.former_key_id, o.id, o.name, p.rows, p.keys, p.names, i.ids
FROM changed c
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = c.tenant_id
LEFT JOIN portcullis.roles o ON o.tenant_id = c.tenant_id
LEFT JOIN (SELECT role_id, array_agg(id ORDER BY id) AS rows, array_agg(key_id ORDER BY id) AS keys, array_agg(name ORDER BY id) AS names FROM portcullis.permissions
           WHERE tenant_id IN (SELECT tenant_id FROM changed) GROUP BY role_id) p ON p.role_id = o.id
LEFT JOIN (SELECT role_id, array_agg(parent_id ORDER BY parent_id) AS ids FROM portcullis.role_parents
           WHERE tenant_id IN (SELECT tenant_id FROM changed) GROUP BY role_id) i ON i.role_id = o.id
ORDER BY c.tenant_id, o.id;

-- call: Delta
-- $1: 1
-- $2: 7
-- returns: ; rows: none
SELECT kid, algorithm, jwk, created_at, coalesce(signs_at, 0), coalesce(expires_at, 0) FROM portcullis.signing_keys
WHERE EXISTS (SELECT FROM portcullis.change_log c WHERE c.revision > $1 AND c.kind = $2) ORDER BY created_at, kid;

-- call: Delta
-- returns: ; rows: none
COMMIT;

-- call: Grant
-- $1: 1
-- $2: \x00e85779e1a738ef85e79478dc379dbd
-- returns: int8, bytea, int8, int8, int8, int8, int8; rows: some
SELECT r.number, r.tag, e.key_id, e.former_key_id, (SELECT coalesce(max(coalesce(k.expires_at, 9223372036854775807)), 0)
 FROM portcullis.user_keys k WHERE k.tenant_id = $1 AND k.principal_index = $2 AND k.revoked_at IS NULL), m.role_id, m.expires_at
FROM portcullis.revision r
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = $1
LEFT JOIN portcullis.memberships m ON m.tenant_id = $1 AND m.principal_index = $2
ORDER BY m.role_id;

-- call: Key
-- $1: \x0100000000000000000000000000000000000000000000000000000000000000
-- returns: int8, bytea, int8, int8, text, bytea, text, text, int8, int8, int8, int8, int8; rows: some
SELECT r.number, r.tag, k.id, k.tenant_id, k.name, k.digest, k.prefix, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.last_used_at, k.rotate_at
FROM portcullis.revision r
LEFT JOIN portcullis.client_keys k ON k.digest = $1;

-- call: UserKey
-- $1: \x0200000000000000000000000000000000000000000000000000000000000000
-- returns: int8, bytea, int8, int8, int8, int8, bytea, text, int8, text, bytea, text, text, int8, int8, int8, int8; rows: some
SELECT r.number, r.tag, e.key_id, e.former_key_id, k.id, k.seal_key_id, k.principal_index, k.key_id, k.tenant_id, k.user_id, k.digest, k.prefix, k.label, k.created_at, k.expires_at, k.revoked_at, k.last_used_at
FROM portcullis.revision r
LEFT JOIN portcullis.user_keys k ON k.digest = $1
LEFT JOIN portcullis.tenant_keys e ON e.tenant_id = k.tenant_id;

-- call: Report
-- $1: s
-- $2: 2
-- $3: 1800000000000000000
-- $4: 1
-- $5: 60000000000
-- $6: d
-- $7: {}
-- $8: {}
-- $9: 
-- returns: ; rows: none
INSERT INTO portcullis.sidecar_reports (sidecar, kind, reported_at, applied, staleness, policy_digest, use_digests, use_times, masters)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- call: Report
-- $1: s
-- $2: 3
-- $3: 1800000000000000000
-- $4: 0
-- $5: 0
-- $6: 
-- $7: {"\\x0100000000000000000000000000000000000000000000000000000000000000"}
-- $8: {1800000000000000000}
-- $9: 
-- returns: ; rows: none
INSERT INTO portcullis.sidecar_reports (sidecar, kind, reported_at, applied, staleness, policy_digest, use_digests, use_times, masters)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- call: Wait
-- returns: ; rows: none
LISTEN portcullis;
