package authdata

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCreatorsThatAreNoClientKey(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		upper := strings.ToUpper(tenantA)
		db.exec(t,
			"INSERT INTO auth_permission (id, creator, name, is_active) VALUES (1, NULL, 'a_b', true), (2, NULL, 'c_d', true), (3, '"+tenantA+"', 'a_b', true), (4, '', 'x_y', true)",
			"INSERT INTO auth_group (id, creator, role, is_active) VALUES (5, '"+upper+"', 'r', true), (6, 'admin', 'r', false), (7, '"+tenantA+"\n', 'r', true), (8, '"+tenantA+" ', 'r', true)",
			`INSERT INTO auth_membership (id, creator, "user", is_active) VALUES (9, '`+upper+"', 'u', true)",
			"INSERT INTO auth_tenant_settings VALUES (10, '"+tenantB+"', NULL)")
		s := db.open(t, "")
		got := s.saidTenants(t)
		joined := strings.Join(got, "\n")
		for _, want := range []string{
			tenantA, tenantB,
			"! table auth_permission, row 1, column creator: is NULL (rows of the table with the same: 2)",
			"! table auth_permission, row 4, column creator: is no client key",
			"! table auth_group, row 5, column creator: is no client key",
			"! table auth_group, row 6, column creator: is no client key",
			"! table auth_group, row 7, column creator: is no client key",
			"! table auth_group, row 8, column creator: is no client key",
			"! table auth_membership, row 9, column creator: is no client key",
		} {
			if strings.Count(joined, want) != 1 {
				t.Errorf("%q is not said once", want)
			}
		}
		if len(got) != 9 || strings.Contains(joined, upper) {
			t.Errorf("tenants:\n%s", joined)
		}
		expect(t, "settings of b", s.said(t, tenantB)["settings"], "10 strict=false")
	})
}

// A name that Auth's API would not take is reported beside its row, for the
// importer to decide.
func TestNamesThatAuthWouldNotTake(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		a := "'" + tenantA + "'"
		long := strings.Repeat("n", 65)
		db.exec(t, "ALTER TABLE auth_group ADD COLUMN unused INTEGER")
		if db.postgres {
			db.exec(t, "ALTER TABLE auth_group ALTER role TYPE TEXT")
		}
		db.exec(t,
			"INSERT INTO auth_group (id, creator, role, is_active) VALUES (1, "+a+", 'two words', true), (2, "+a+", '"+long+"', true), (3, "+a+", 'line\n', true), (4, "+a+", 'größe', true), (5, "+a+", '', true), (6, "+a+", '"+long[:64]+"', true)",
			"INSERT INTO auth_permission (id, creator, name, is_active) VALUES (1, "+a+", 'posts:read', true), (2, "+a+", '"+long+long[:63]+"', true), (3, "+a+", '"+long+long+"', true), (4, "+a+", NULL, true)",
			`INSERT INTO auth_membership (id, creator, "user", is_active) VALUES (1, `+a+", 'auth0|65f', true), (2, "+a+", 'a.b+c@d-e_f', true)",
			"INSERT INTO membership_groups VALUES (1, 6), (2, 6), (2, 1)",
			"INSERT INTO permission_groups VALUES (1, 6)")
		said := db.open(t, "").said(t, tenantA)
		const other = " is not what Auth's API accepts here"
		expectParts(t, "roles", said["roles"],
			"1 two words|! table auth_group, row 1, column role:"+other, "2 "+long+"|row 2, column role:"+other,
			"3 line\n|row 3, column role:"+other, "4 größe|row 4, column role:"+other, "row 5, column role: is empty", "6 nnn")
		expectParts(t, "permissions", said["permissions"],
			"1 posts:read|! table auth_permission, row 1, column name:"+other, "2 nnn", "row 3, column name:"+other, "row 4, column name: is empty")
		expectParts(t, "grants", said["grants"], "1/6 posts:read in nnn|! table auth_permission, row 1, column name:"+other)
		expectParts(t, "memberships", said["memberships"],
			"1/6 auth0|65f in nnn|! table auth_membership, row 1, column user:"+other,
			"2/1 a.b+c@d-e_f in two words|! table auth_group, row 1, column role:"+other, "2/6 a.b+c@d-e_f in nnn")
	})
}

func TestDanglingLinks(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, filled(sealings[0].field)...)
		if db.postgres {
			db.exec(t, "ALTER TABLE membership_groups DROP CONSTRAINT membership_fk, DROP CONSTRAINT group_fk",
				"ALTER TABLE permission_groups DROP CONSTRAINT permission_fk, DROP CONSTRAINT group_fk")
		}
		db.exec(t, "INSERT INTO membership_groups VALUES (1, 100), (1, 3), (2, 100), (100, 1), (100, 100)",
			"INSERT INTO permission_groups VALUES (1, 100), (2, 3), (100, 1)")
		s := db.open(t, "")
		said := s.said(t, tenantA)
		expect(t, "memberships", said["memberships"], "1/1 alice@example.com in editor",
			"! table membership_groups, row 1/3, column group_id: the role is another tenant's",
			"1/7 alice@example.com in Editor",
			"! table membership_groups, row 1/100, column group_id: there is no such role")
		expect(t, "grants", said["grants"], "1/1 edit_post in editor",
			"! table permission_groups, row 1/100, column group_id: there is no such role",
			"2/1 view_post in editor",
			"! table permission_groups, row 2/3, column group_id: the role is another tenant's",
			"2/7 view_post in Editor")
		expect(t, "memberships of b", s.said(t, tenantB)["memberships"], "3/3 bob.b in editor")
		var orphans []string
		for err := range s.Orphans(t.Context()) {
			orphans = append(orphans, err.Error())
		}
		expect(t, "orphans", orphans,
			"table permission_groups, row 100/1, column permission_id: there is no such permission",
			"table membership_groups, row 100/1, column membership_id: there is no such membership",
			"table membership_groups, row 100/100, column membership_id: there is no such membership")
	})
}

func TestDamagedFields(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		a, s := "'"+tenantA+"'", theSealer()
		flipped := []byte(s.v2(tenantA, "flipped"))
		flipped[30] ^= 1 // another character of base64
		db.exec(t,
			`INSERT INTO auth_membership (id, creator, "user", is_active) VALUES (1, `+a+", '"+s.v2(tenantA, "good")+"', true), (2, "+a+", '"+string(flipped)+
				"', true), (3, "+a+", '"+s.v2(tenantB, "moved")+"', true), (4, "+a+", 'view', true), (5, "+a+", 'plain', true), (6, "+a+", 'v2:junk', true), (7, "+a+", 'v2:junk2', false), (8, "+a+", '"+s.v2(tenantA, "no name\x00")+"', true)",
			"INSERT INTO auth_group (id, creator, role, is_active, description) VALUES (1, "+a+", 'role', true, '"+s.v2(tenantA, "\xff")+"')",
			"INSERT INTO membership_groups VALUES (1, 1), (2, 1), (4, 1), (5, 1), (8, 1)",
			"INSERT INTO auth_permission (id, creator, name, is_active) VALUES (1, "+a+", '"+s.v2(tenantA, "same")+"', true), (2, "+a+", '"+s.v1("same")+"', true)",
			"INSERT INTO permission_groups VALUES (1, 1), (2, 1)",
			`INSERT INTO auth_api_key (id, key_id, creator, "user", key_hash, key_prefix, label, is_active) VALUES (1, '11111111-1111-4111-8111-111111111111', `+a+", '"+s.v2(tenantA, "good")+"', '"+strings.Repeat("a1", 32)+"', 'rak_x', '"+string(flipped)+"', true)")
		said := db.open(t, theKey).said(t, tenantA)
		expectParts(t, "memberships", said["memberships"], "1/1 good in role",
			"! table auth_membership, row 2, column user: is encrypted, and fails its check",
			"! table auth_membership, row 3, column user: is encrypted, and fails its check", // in no role, and said all the same
			"! table auth_membership, row 4, column user: is base64 without the mark",
			"5/1 plain in role",
			"! table auth_membership, row 6, column user: is marked as encrypted",
			"8/1 no name\x00 in role|! table auth_membership, row 8, column user: holds a NUL")
		expectParts(t, "keys", said["keys"], "! table auth_api_key, row 1, column label: is encrypted, and fails its check")
		expectParts(t, "roles", said["roles"], "1 role|! table auth_group, row 1, column description: is not valid UTF-8")
		expect(t, "permissions", said["permissions"], "1 same", "2 same")
		expect(t, "grants", said["grants"], "1/1 same in role", "2/1 same in role")
	})
}

// Without a key, what slips past the probe is an error of its row.
func TestASealedFieldBehindTheProbe(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		var rows []string
		for i := range 3 * probeRows {
			name := fmt.Sprintf("plain_user_%d", i)
			if i == probeRows+5 {
				name = strings.Replace(theSealer().v1("hidden"), "+", "/", 1)
			}
			rows = append(rows, fmt.Sprintf("(%d, '%s', '%s', true)", i, tenantA, name))
		}
		db.exec(t, `INSERT INTO auth_membership (id, creator, "user", is_active) VALUES `+strings.Join(rows, ","))
		expectParts(t, "memberships", db.open(t, "").said(t, tenantA)["memberships"],
			fmt.Sprintf("! table auth_membership, row %d, column user: is encrypted, and there is no --auth-key", probeRows+5))
	})
}

// A database without encryption keeps free text that only looks marked.
func TestADescriptionThatBeginsWithTheMark(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, "INSERT INTO auth_group (id, creator, role, description, is_active) VALUES (1, '"+tenantA+"', 'r', 'v2: the second one', true)")
		expect(t, "roles", db.open(t, "").said(t, tenantA)["roles"], `1 r "v2: the second one"`)
	})
}

func TestUserKeysThatCannotBeRead(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		key := func(id int, hash, expires string) string {
			return fmt.Sprintf(`INSERT INTO auth_api_key (id, key_id, creator, "user", key_hash, key_prefix, is_active, expires_at) VALUES (%d, '00000000-0000-4000-8000-00000000000%d', '%s', 'u', '%s', 'rak_x', true, %s)`, id, id, tenantA, hash, expires)
		}
		ends := "''"
		if db.postgres {
			ends = "'infinity'"
		}
		db.exec(t, key(1, strings.Repeat("AB", 32), "NULL"), key(2, strings.Repeat("ab", 31), "NULL"), key(3, strings.Repeat("zz", 32), "NULL"),
			key(4, strings.Repeat("ab", 32), ends), key(5, strings.Repeat("cd", 32), "NULL"))
		const hash = "column key_hash: is no SHA-256"
		expectParts(t, "keys", db.open(t, "").said(t, tenantA)["keys"], "! table auth_api_key, row 1, "+hash, "! table auth_api_key, row 2, "+hash,
			"! table auth_api_key, row 3, "+hash, "! table auth_api_key, row 4, column expires_at: is no time", "5 0000")
	})
}

func TestAuditRowsThatAreOdd(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, `INSERT INTO audit_log (id, timestamp, action, details, success) VALUES (1, '2024-05-06 00:00:00', 'A', '{"x":', 1), (2, '2024-05-06 00:00:00', 'B', 'null', 7), (3, '9999-12-31 23:59:59', 'C', '', NULL)`,
			"INSERT INTO audit_log (id, timestamp, action, user_agent, success) VALUES (4, '0001-01-01 00:00:00', 'D', '"+strings.Repeat("é", maxText)+"', 1)")
		expectParts(t, "audit", db.open(t, "").saidAudit(t, Cursor{}),
			"1 2024|A|! table audit_log, row 1, column details: is not JSON",
			"! table audit_log, row 2, column success: is no boolean", "3 9999-12-31T23:59:59Z", "! table audit_log, row 4, column user_agent: is longer than 1048576 bytes")
	})
}

// SQLite keeps what it is given, whatever the column says.
func TestWhatOnlySQLiteHolds(t *testing.T) {
	db := newSQLite(t)
	a := "'" + tenantA + "'"
	db.exec(t,
		"INSERT INTO auth_group (id, creator, role, is_active, description) VALUES"+
			"(1, "+a+", 'nul' || char(0) || 'x', 1, NULL), (2, "+a+", CAST(x'61ff62' AS TEXT), 1, NULL), (3, "+a+", x'626c6f62', 1, NULL), (4, "+a+", 'texttrue', 'true', NULL),"+
			"(5, "+a+", 'two', 2, NULL), (6, "+a+", 'textone', '1', NULL), (7, "+a+", 'textzero', '0', NULL), (8, "+a+", 'one', 1.0, 'a' || char(0)), (9, "+a+", 'half', 0.5, NULL), (10, "+a+", 'empty', '', NULL), (11, "+a+", 'textfalse', 'false', NULL)",
		"INSERT INTO auth_group (id, creator, role, is_active, date_created) VALUES"+
			"(21, "+a+", 'isoformat', 1, '2024-05-06T07:08:09.123456'), (22, "+a+", 'zulu', 1, '2024-05-06T07:08:09Z'), (23, "+a+", 'offset', 1, '2024-05-06 09:08:09.5+02:00'),"+
			"(24, "+a+", 'minutes', 1, '2024-05-06 07:08'), (25, "+a+", 'day', 1, '2024-05-06'), (26, "+a+", 'epoch', 1, 1714979289), (27, "+a+", 'words', 1, 'yesterday'), (28, "+a+", 'no_such_day', 1, '2024-02-30 00:00:00'), (29, "+a+", 'year_zero', 1, '0000-01-01 00:00:00')",
		"INSERT INTO auth_group (id, creator, role, is_active, description) VALUES (30, "+a+", 'overlong', 1, hex(zeroblob("+fmt.Sprint(maxText)+")))")
	s := db.open(t, "")
	const boolean, when = "column is_active: is no boolean", "column date_created: is no time"
	expectParts(t, "roles", said(t, s.Roles(t.Context(), NewSecret(tenantA), Cursor{}), func(r Role) string {
		created := ""
		if r.Created != nil {
			created = r.Created.Format(time.RFC3339Nano)
		}
		return fmt.Sprintf("%s %q %q %s", r.ID, r.Name, r.Description, created)
	}),
		`1 "nul\x00x"|row 1, column role: holds a NUL`, `2 "a\xffb"|row 2, column role: is not valid UTF-8`, `3 "blob"`, "! table auth_group, row 4, "+boolean,
		"! table auth_group, row 5, "+boolean, `6 "textone"`, `8 "one" "a\x00"|row 8, column description: holds a NUL`, "! table auth_group, row 9, "+boolean, "! table auth_group, row 10, "+boolean, "! table auth_group, row 11, "+boolean,
		`21 "isoformat" "" 2024-05-06T07:08:09.123456Z`, `22 "zulu" "" 2024-05-06T07:08:09Z`, `23 "offset" "" 2024-05-06T07:08:09.5Z`,
		`24 "minutes" "" 2024-05-06T07:08:00Z`, `25 "day" "" 2024-05-06T00:00:00Z`, "! table auth_group, row 26, "+when, "! table auth_group, row 27, "+when, "! table auth_group, row 28, "+when, "! table auth_group, row 29, "+when,
		"! table auth_group, row 30, column description: is longer than 1048576 bytes")
}

func TestWhatOnlyPostgresHolds(t *testing.T) {
	db := newPostgres(t, "auth_rbac")
	a := "'" + tenantA + "'"
	name := db.url[strings.Index(db.url, "/test_")+1 : strings.Index(db.url, "?")]
	db.exec(t,
		"ALTER TABLE auth_permission ALTER is_active TYPE INTEGER USING is_active::int",
		"ALTER TABLE auth_group ALTER date_created TYPE TIMESTAMPTZ",
		"ALTER TABLE audit_log ALTER details TYPE JSONB USING details::jsonb",
		"ALTER TABLE auth_api_key ALTER key_id TYPE UUID USING key_id::uuid",
		"INSERT INTO auth_permission (id, creator, name, is_active) VALUES (1, "+a+", 'one', 1), (2, "+a+", 'zero', 0), (3, "+a+", 'two', 2)",
		"INSERT INTO auth_group (id, creator, role, is_active, date_created) VALUES (1, "+a+", 'zone', true, '2024-05-06 09:08:09+02'), (2, "+a+", 'half_zone', true, '2024-05-06 09:08:09+05:30'),"+
			"(3, "+a+", 'bc', true, '0044-03-15 00:00:00 BC'), (4, "+a+", 'far', true, '12024-01-01 00:00:00'), (5, "+a+", 'never', true, '-infinity')",
		`INSERT INTO audit_log (id, timestamp, action, details, success) VALUES (1, '2024-05-06 00:00:00', 'A', '{"x": 1}', 1)`,
		`INSERT INTO auth_api_key (id, key_id, creator, "user", key_hash, key_prefix, is_active) VALUES (1, 'ABCDEF00-0000-4000-8000-000000000001', `+a+", 'u', '"+strings.Repeat("ab", 32)+"', 'rak_x', true)",
		"ALTER DATABASE "+name+" SET DateStyle = 'German'", "ALTER DATABASE "+name+" SET TimeZone = 'Asia/Tokyo'",
		"ALTER DATABASE "+name+" SET default_transaction_isolation = 'serializable'", "ALTER DATABASE "+name+" SET standard_conforming_strings = off")
	s := db.open(t, "")
	all := s.said(t, tenantA)
	expectParts(t, "permissions", all["permissions"], "1 one", "! table auth_permission, row 3, column is_active: is no boolean")
	const when = "column date_created: is no time"
	expectParts(t, "roles", said(t, s.Roles(t.Context(), NewSecret(tenantA), Cursor{}), func(r Role) string { return r.Name + " " + r.Created.Format(time.RFC3339) }),
		"zone 2024-05-06T07:08:09Z", "half_zone 2024-05-06T03:38:09Z", "! table auth_group, row 3, "+when, "! table auth_group, row 4, "+when, "! table auth_group, row 5, "+when)
	expectParts(t, "keys", all["keys"], "1 abcdef00-0000-4000-8000-000000000001 u abab")
	for row, err := range s.Audit(t.Context(), Cursor{}) {
		if err != nil || row.Details != `{"x": 1}` {
			t.Errorf("details %q, %v", row.Details, err)
		}
	}
}
