package authdata

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// filled are the rows of a small Auth with two tenants. field makes of a plaintext
// what the column holds.
func filled(field func(creator, plain string) string) []string {
	q := func(creator, plain string) string { return "'" + field(creator, plain) + "'" }
	digest := func(b string) string { return "'" + strings.Repeat(b, 32) + "'" }
	const a, b = "'" + tenantA + "'", "'" + tenantB + "'"
	return []string{
		"INSERT INTO auth_group (id, creator, role, description, is_active, date_created) VALUES" +
			"(1, " + a + ", 'editor', " + q(tenantA, "Edits posts, größe ✓") + ", true, '2024-05-06 07:08:09.123456')," +
			"(2, " + a + ", 'former', NULL, false, NULL)," +
			"(3, " + b + ", 'editor', NULL, true, '2024-05-06 07:08:09')," +
			"(4, " + a + ", 'unknown', NULL, NULL, NULL)," +
			"(7, " + a + ", 'Editor', NULL, true, NULL)",
		"INSERT INTO auth_permission (id, creator, name, is_active) VALUES" +
			"(1, " + a + ", " + q(tenantA, "edit_post") + ", true)," +
			"(2, " + a + ", " + q(tenantA, "view_post") + ", true)," +
			"(3, " + a + ", " + q(tenantA, "former_permission") + ", false)," +
			"(4, " + b + ", " + q(tenantB, "edit_post") + ", true)," +
			"(5, " + a + ", " + q(tenantA, "unlinked") + ", true)",
		"INSERT INTO permission_groups VALUES (1, 1), (2, 1), (2, 7), (1, 2), (3, 1), (4, 3)",
		`INSERT INTO auth_membership (id, creator, "user", is_active) VALUES` +
			"(1, " + a + ", " + q(tenantA, "alice@example.com") + ", true)," +
			"(2, " + a + ", " + q(tenantA, "former_user") + ", false)," +
			"(3, " + b + ", " + q(tenantB, "bob.b") + ", true)," +
			"(4, " + a + ", " + q(tenantA, "no_roles") + ", true)",
		"INSERT INTO membership_groups VALUES (1, 7), (1, 1), (1, 2), (1, 4), (2, 1), (3, 3)",
		`INSERT INTO auth_api_key (id, key_id, creator, "user", key_hash, key_prefix, label, is_active, revoked_at, expires_at, last_used_at) VALUES` +
			"(1, '11111111-1111-4111-8111-111111111111', " + a + ", " + q(tenantA, "alice@example.com") + ", " + digest("aa") + ", 'rak_AbCd1234', " + q(tenantA, "my laptop") + ", true, NULL, NULL, NULL)," +
			"(2, '22222222-2222-4222-8222-222222222222', " + a + ", " + q(tenantA, "alice@example.com") + ", " + digest("bb") + ", 'rak_AbCd5678', NULL, false, '2024-05-07 00:00:00', NULL, '2024-05-06 23:59:59.5')," +
			"(3, '33333333-3333-4333-8333-333333333333', " + a + ", " + q(tenantA, "alice@example.com") + ", " + digest("cc") + ", 'rak_AbCd9999', '', false, NULL, '2030-01-01 00:00:00', NULL)," +
			"(4, '44444444-4444-4444-8444-444444444444', " + b + ", " + q(tenantB, "bob.b") + ", " + digest("dd") + ", 'rak_ZZZZ0000', NULL, true, NULL, '9999-12-31 23:59:59.999999', NULL)",
		"INSERT INTO auth_tenant_settings VALUES (1, " + b + ", true)",
		`INSERT INTO audit_log (id, timestamp, client_id, "user", action, resource, details, ip_address, user_agent, success) VALUES` +
			`(1, '2024-05-06 07:08:09.123456', 'fpr_01', NULL, 'CREATE_ROLE', 'editor', '{"x": 1}', '10.0.0.1', 'curl', 1),` +
			`(2, '2024-06-01 00:00:00', 'fpr_02', 'bob.b', 'CHECK_PERMISSION', NULL, NULL, NULL, NULL, 0)`,
	}
}

// sealings are the ways in which a database may hold its fields.
var sealings = []struct {
	name, key string
	field     func(creator, plain string) string
}{
	{"plain", "", func(_, plain string) string { return plain }},
	{"tagged", theKey, func(creator, plain string) string { return theSealer().v2(creator, plain) }},
	{"untagged", theKey, func(_, plain string) string { return theSealer().v1(plain) }},
	{"mixed", theKey, func(creator, plain string) string {
		switch plain { // none of the plain ones is base64
		case "alice@example.com":
			return theSealer().v1(plain)
		case "edit_post", "my laptop":
			return plain
		}
		return theSealer().v2(creator, plain)
	}},
}

func TestEverythingIsRead(t *testing.T) {
	for _, how := range sealings {
		t.Run(how.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, db *authDB) {
				db.exec(t, filled(how.field)...)
				s := db.open(t, how.key)
				expect(t, "tenants", s.saidTenants(t), tenantA, tenantB)
				a, b := s.said(t, tenantA), s.said(t, tenantB)
				expect(t, "settings of a", a["settings"])
				expect(t, "roles of a", a["roles"], `1 editor "Edits posts, größe ✓"`, `7 Editor ""`)
				expect(t, "permissions of a", a["permissions"], "1 edit_post", "2 view_post", "5 unlinked")
				expect(t, "grants of a", a["grants"], "1/1 edit_post in editor", "2/1 view_post in editor", "2/7 view_post in Editor")
				expect(t, "memberships of a", a["memberships"], "1/1 alice@example.com in editor", "1/7 alice@example.com in Editor")
				expect(t, "keys of a", a["keys"],
					`1 11111111-1111-4111-8111-111111111111 alice@example.com aaaa rak_AbCd1234 "my laptop" active=true`,
					`2 22222222-2222-4222-8222-222222222222 alice@example.com bbbb rak_AbCd5678 "" active=false`,
					`3 33333333-3333-4333-8333-333333333333 alice@example.com cccc rak_AbCd9999 "" active=false`)
				expect(t, "settings of b", b["settings"], "1 strict=true")
				expect(t, "roles of b", b["roles"], `3 editor ""`)
				expect(t, "grants of b", b["grants"], "4/3 edit_post in editor")
				expect(t, "memberships of b", b["memberships"], "3/3 bob.b in editor")
				expect(t, "audit", s.saidAudit(t, Cursor{}),
					"1 2024-05-06T07:08:09.123456Z fpr_01  CREATE_ROLE editor true",
					"2 2024-06-01T00:00:00Z fpr_02 bob.b CHECK_PERMISSION  false")
				for err := range s.Orphans(t.Context()) {
					t.Errorf("an orphan: %v", err)
				}
				counts, err := s.Counts(t.Context())
				if want := (Counts{Settings: 1, Roles: 3, Permissions: 4, Grants: 6, Memberships: 6, UserKeys: 4, Audit: 2}); err != nil || counts != want {
					t.Errorf("counts %+v, %v; want %+v", counts, err, want)
				}
				for _, other := range []string{"", "00000000-0000-4000-8000-000000000000", strings.ToUpper(tenantA)} {
					for stream, rows := range s.said(t, other) {
						expect(t, stream+" of the tenant "+other, rows)
					}
				}
			})
		})
	}
}

func TestWhichUserKeysAreLive(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, filled(sealings[0].field)...)
		// In year 1 Go's zero time lies; it must not read as "never".
		db.exec(t, "INSERT INTO auth_api_key VALUES (9, '99999999-9999-4999-8999-999999999999', '"+tenantA+"', 'x_y', '"+strings.Repeat("ee", 32)+
			"', 'rak_x', NULL, true, NULL, '0001-01-01 00:00:00', NULL, '2024-01-01 00:00:00')")
		db.exec(t, "INSERT INTO auth_api_key VALUES (10, '99999999-9999-4999-8999-99999999999a', '"+tenantA+"', 'x_y', '"+strings.Repeat("ef", 32)+
			"', 'rak_x', NULL, true, '0001-01-01 00:00:00', NULL, NULL, NULL)")
		s := db.open(t, "")
		now := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
		live := map[string]bool{}
		for _, tenant := range []string{tenantA, tenantB} {
			for k, err := range s.UserKeys(t.Context(), NewSecret(tenant), Cursor{}) {
				if err != nil {
					t.Fatal(err)
				}
				live[k.ID] = k.Live(now)
				if k.ID == "4" && k.Live(time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)) {
					t.Error("key 4 outlives its expiry")
				}
				if k.ID == "9" && (k.Created == nil || !k.Created.Equal(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))) {
					t.Errorf("key 9 was created at %v", k.Created)
				}
			}
		}
		if got, want := fmt.Sprint(live), "map[1:true 10:false 2:false 3:false 4:true 9:false]"; got != want {
			t.Errorf("live: %s, want %s", got, want)
		}
	})
}

// Each stream, left off after any of its rows, goes on with the next one from
// another Source.
func TestCursorsGoOnWhereTheyLeftOff(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, filled(sealings[0].field)...)
		db.exec(t, "INSERT INTO auth_permission (id, creator, name, is_active) VALUES (-3, '"+tenantA+"', 'below_zero', true), (0, '"+tenantA+"', 'zero_id', true)",
			"INSERT INTO permission_groups VALUES (-3, 1), (0, 1), (0, 7)")
		if db.postgres {
			db.exec(t, "INSERT INTO audit_log (id, timestamp, action, success) VALUES (2, '2024-05-31 00:00:00', 'TWICE', 1), (2, '2024-07-01 00:00:00', 'THRICE', 1), (3, '2024-07-01 00:00:00', 'LAST', 1)")
		}
		s, again, key := db.open(t, ""), db.open(t, ""), NewSecret(tenantA)
		resumes(t, "roles", func(s *Source, at Cursor) []string { return places(t, s.Roles(t.Context(), key, at)) }, s, again, 2)
		resumes(t, "permissions", func(s *Source, at Cursor) []string { return places(t, s.Permissions(t.Context(), key, at)) }, s, again, 5)
		resumes(t, "grants", func(s *Source, at Cursor) []string { return places(t, s.Grants(t.Context(), key, at)) }, s, again, 6)
		resumes(t, "memberships", func(s *Source, at Cursor) []string { return places(t, s.Memberships(t.Context(), key, at)) }, s, again, 2)
		resumes(t, "keys", func(s *Source, at Cursor) []string { return places(t, s.UserKeys(t.Context(), key, at)) }, s, again, 3)
		audit := 2
		if db.postgres {
			audit = 5
		}
		resumes(t, "audit", func(s *Source, at Cursor) []string { return places(t, s.Audit(t.Context(), at)) }, s, again, audit)
	})
}

func (r Row) cursor() Cursor { return r.Cursor }

func places[T interface{ cursor() Cursor }](t *testing.T, rows func(func(T, error) bool)) []string {
	t.Helper()
	return said(t, rows, func(r T) string { return r.cursor().String() })
}

func resumes(t *testing.T, what string, read func(*Source, Cursor) []string, s, again *Source, n int) {
	t.Helper()
	all := read(s, Cursor{})
	if len(all) != n {
		t.Fatalf("%s: %d rows (%v), want %d", what, len(all), all, n)
	}
	for i, at := range all {
		cursor, err := ParseCursor(at)
		if err != nil {
			t.Fatal(err)
		}
		if cursor == (Cursor{}) {
			continue // the id 0 of a table of single ids: it begins again
		}
		expect(t, what+" after "+at, read(again, cursor), all[i+1:]...)
	}
}

func TestCursorText(t *testing.T) {
	for _, c := range []Cursor{{}, {1, 2}, {-9223372036854775808, 9223372036854775807}} {
		if got, err := ParseCursor(c.String()); err != nil || got != c {
			t.Errorf("%v reads as %v, %v", c, got, err)
		}
	}
	for _, s := range []string{"", "1", "1/", "/1", "a/b", "1/2/3", "9223372036854775808/0"} {
		if c, err := ParseCursor(s); err == nil {
			t.Errorf("%q reads as %v", s, c)
		}
	}
}

// Streams nest and may be left early, and the source stays good.
func TestStreamsNest(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		db.exec(t, filled(sealings[0].field)...)
		many := "INSERT INTO audit_log (id, timestamp, action, success) VALUES (10, '2024-05-01 00:00:00', 'X', 1)"
		for i := range 3 * fetchSize {
			many += fmt.Sprintf(", (%d, '2024-06-01 00:00:00', 'X', 1)", i+11)
		}
		db.exec(t, many)
		s := db.open(t, "")
		seen := 0
		for key, err := range s.Tenants(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range s.Roles(t.Context(), key, Cursor{}) {
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for _, err := range s.Audit(t.Context(), Cursor{}) {
					if err != nil {
						t.Fatal(err)
					}
					if n++; n == fetchSize+1 {
						break
					}
				}
				seen++
			}
		}
		if seen != 3 {
			t.Errorf("%d roles, want 3", seen)
		}
		if got := len(s.saidAudit(t, Cursor{})); got != 3*fetchSize+3 {
			t.Errorf("%d audit rows, want %d", got, 3*fetchSize+3)
		}
	})
}

func TestOneSnapshot(t *testing.T) {
	for name, db := range map[string]func(t *testing.T) *authDB{
		"postgres": func(t *testing.T) *authDB { return newPostgres(t, "auth_rbac") },
		"sqlite in WAL mode": func(t *testing.T) *authDB {
			db := newSQLite(t)
			db.exec(t, "PRAGMA journal_mode = WAL")
			return db
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := db(t)
			db.exec(t, filled(sealings[0].field)...)
			s := db.open(t, "")
			db.exec(t, "DELETE FROM membership_groups", "INSERT INTO auth_group (id, creator, role, is_active) VALUES (99, '"+tenantA+"', 'late', true)")
			a := s.said(t, tenantA)
			expect(t, "roles", a["roles"], `1 editor "Edits posts, größe ✓"`, `7 Editor ""`)
			expect(t, "memberships", a["memberships"], "1/1 alice@example.com in editor", "1/7 alice@example.com in Editor")
			expect(t, "memberships, later", db.open(t, "").said(t, tenantA)["memberships"])
		})
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	for _, c := range []struct {
		sealing int
		key     string
		want    error
	}{
		{0, theKey, ErrNotEncrypted},
		{1, "", ErrKeyNeeded},
		{1, "another", ErrWrongKey},
		{1, theKey + " ", ErrWrongKey},
		{2, "", ErrKeyNeeded},
		{2, "another", ErrWrongKey},
		{3, "", ErrKeyNeeded},
		{3, "another", ErrWrongKey},
	} {
		t.Run(sealings[c.sealing].name+" with "+c.key, func(t *testing.T) {
			onBoth(t, func(t *testing.T, db *authDB) {
				db.exec(t, filled(sealings[c.sealing].field)...)
				s, err := Open(t.Context(), Config{URL: db.url, Key: NewSecret(c.key)})
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				if s != nil {
					s.Close()
				}
			})
		})
	}
}

// A damaged value at the front must not make the right key look wrong, and one
// encrypted value behind many plain ones must be noticed.
func TestTheProbeLooksBeyondTheFirstRows(t *testing.T) {
	onBoth(t, func(t *testing.T, db *authDB) {
		insert := `INSERT INTO auth_membership (id, creator, "user", is_active) VALUES `
		var rows []string
		for i := range 3 * probeRows {
			rows = append(rows, fmt.Sprintf("(%d, '%s', 'plain_user_%d', true)", i, tenantA, i))
		}
		rows[probeRows+5] = fmt.Sprintf("(%d, '%s', '%s', true)", probeRows+5, tenantA, theSealer().v2(tenantA, "hidden"))
		db.exec(t, insert+strings.Join(rows, ","))
		if _, err := Open(t.Context(), Config{URL: db.url}); !errors.Is(err, ErrKeyNeeded) {
			t.Errorf("%v, want %v", err, ErrKeyNeeded)
		}
		db.exec(t, insert+fmt.Sprintf("(-1, '%s', '%s', true)", tenantA, theSealer().v2(tenantB, "moved")))
		db.open(t, theKey)
	})
}
