package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

var tester = store.Actor{Name: "client:test"}

// stepClock is a clock that tests move.
type stepClock struct{ at time.Time }

func (c *stepClock) now() time.Time { return c.at }

// openSealable opens a store in clear that holds a master, with a clock of its own.
func openSealable(t testing.TB) (*Store, *stepClock) {
	t.Helper()
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	if err != nil {
		t.Fatal(err)
	}
	clock := &stepClock{at: time.Date(2030, 1, 2, 3, 4, 5, 600, time.UTC)}
	s, err := Open(context.Background(), Config{URL: migratedFor(t), Masters: masters, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	return s, clock
}

// rotateAll goes through a whole rotation. What does not open goes to leave.
func rotateAll(t testing.TB, s *Store, kind store.RotationKind, leave func(error)) {
	t.Helper()
	ctx := context.Background()
	_, err := s.BeginRotation(ctx, tester, kind)
	check(t, err)
	for {
		left, err := s.RotationTenants(ctx, 1)
		check(t, err)
		if len(left) == 0 {
			break
		}
		_, err = s.BeginTenant(ctx, tester, left[0])
		check(t, err)
		var at store.ResealCursor
		for done := false; !done; {
			at, _, done, err = s.Reseal(ctx, left[0], at, 3, leave)
			check(t, err)
		}
		_, err = s.FinishTenant(ctx, tester, left[0])
		check(t, err)
	}
	_, err = s.FinishRotation(ctx, tester)
	check(t, err)
}

func tablesThatSeal() []string {
	var names []string
	for _, t := range resealTables() {
		names = append(names, t.name)
	}
	return names
}

// inClear counts the rows that hold the text, in every table that seals.
func inClear(t testing.TB, s *Store, text string) (n int) {
	t.Helper()
	for _, table := range tablesThatSeal() {
		var found int
		check(t, s.pool.QueryRow(context.Background(), `SELECT count(*) FROM portcullis.`+table+` t WHERE strpos(t::text, $1) > 0`, text).Scan(&found))
		n += found
	}
	return n
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func defaultTenant(t *testing.T, s *Store) store.Tenant {
	t.Helper()
	tenant, err := s.TenantByName(context.Background(), store.DefaultTenant)
	check(t, err)
	return tenant
}

// marks are the digests that a sidecar holds after a full load.
func marks(t *testing.T, s *Store) []store.Digest {
	t.Helper()
	base, err := s.Bootstrap(context.Background(), func(store.Digest) error { return nil })
	check(t, err)
	var all []store.Digest
	for _, m := range base.Denied {
		all = append(all, m.Digest)
	}
	return all
}

// subjectDigest is what a sidecar looks the user up by, now.
func subjectDigest(t *testing.T, s *Store, user string) store.Digest {
	t.Helper()
	tenant := defaultTenant(t, s)
	index, err := s.PrincipalIndex(context.Background(), tenant.ID, tenant.Key, policy.KindUser, user)
	check(t, err)
	return store.DenySubjectDigest(tenant.ID, index, "https://issuer")
}

func denyUser(t *testing.T, s *Store, clock *stepClock, user string) store.Denial {
	t.Helper()
	d, _, err := s.Deny(context.Background(), tester, store.NewDenial{
		Kind: store.DenySubject, Tenant: defaultTenant(t, s).ID, Issuer: "https://issuer", Value: user, Principal: policy.KindUser,
		Before: clock.at, Expires: clock.at.Add(time.Hour),
	})
	check(t, err)
	return d
}

// A denied user stays denied through every rotation: what sidecars look it up by
// changes with the tenant's key, in the write that changes the key.
func TestDeniedSubjectsMoveWithTheKey(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	denyUser(t, s, clock, "mallory")
	for _, kind := range []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDisable} {
		former := subjectDigest(t, s, "mallory")
		_, err := s.BeginRotation(ctx, tester, kind)
		check(t, err)
		before, err := s.Head(ctx)
		check(t, err)
		tenant := defaultTenant(t, s).ID
		_, err = s.BeginTenant(ctx, tester, tenant)
		check(t, err)
		current := subjectDigest(t, s, "mallory")
		if current == former {
			t.Fatalf("%s: the digest did not change: the test proves nothing", kind)
		}
		if got := marks(t, s); !slices.Equal(got, []store.Digest{current}) {
			t.Errorf("%s: a full load has %v, want %v", kind, got, current)
		}
		delta, err := s.Delta(ctx, before.Revision, nil)
		check(t, err)
		var gone, added bool
		for _, c := range delta.Changes {
			gone = gone || c.Kind == store.ChangeDenial && c.Digest == former && c.Gone
			added = added || c.Kind == store.ChangeDenial && c.Digest == current && !c.Gone &&
				c.Before == clock.at.UnixNano() && c.Expires == clock.at.Add(time.Hour).UnixNano()
		}
		if !gone || !added {
			t.Errorf("%s: the write that changed the key logged %+v", kind, delta.Changes)
		}
		rotateAll(t, s, kind, nil)
		list, err := s.DenialList(ctx, tenant, 0, 10)
		check(t, err)
		if len(list) != 1 || list[0].Value != "mallory" {
			t.Errorf("%s: the list has %+v", kind, list)
		}
	}
}

// A denied subject that does not open goes on denying, stops no rotation that may
// leave it, and can be taken away.
func TestUnreadableDenialStands(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	rotateAll(t, s, store.RotateEnable, nil)
	d := denyUser(t, s, clock, "mallory")
	digest := subjectDigest(t, s, "mallory")
	if _, err := s.pool.Exec(ctx, `UPDATE portcullis.deny_list SET principal_id = 'spoilt'`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DenialList(ctx, d.Tenant, 0, 10); !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("the list: %v, want unreadable", err)
	}
	var told []error
	rotateAll(t, s, store.RotateDeep, func(err error) { told = append(told, err) })
	if len(told) != 1 {
		t.Errorf("the rotation told of %v", told)
	}
	if got := marks(t, s); !slices.Equal(got, []store.Digest{digest}) {
		t.Errorf("a full load has %v, want %v", got, digest)
	}
	_, err := s.Allow(ctx, tester, d.Tenant, d.ID)
	check(t, err)
	if got := marks(t, s); len(got) != 0 {
		t.Errorf("it is still denied: %v", got)
	}
}

// What a family of refresh tokens hides opens under every key, and is in no row of
// a sealed database.
func TestRefreshTokensAreSealed(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	tenant := defaultTenant(t, s).ID
	token := store.Digest{1}
	_, err := s.StartFamily(ctx, tester, store.RefreshFamily{
		Family: [16]byte{7}, Tenant: tenant, Client: "web", User: "user-of-the-family", Scope: "a b", Expires: clock.at.Add(time.Hour),
	}, token, store.AccessToken{ID: "jti-1", Expires: clock.at.Add(time.Minute)})
	check(t, err)
	for _, kind := range []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDisable} {
		rotateAll(t, s, kind, nil)
		got, err := s.Refresh(ctx, token)
		check(t, err)
		if got.User != "user-of-the-family" {
			t.Errorf("%s: the user is %q", kind, got.User)
		}
		if kind == store.RotateDisable {
			continue
		}
		if n := inClear(t, s, "user-of-the-family"); n != 0 {
			t.Errorf("%s: %d rows hold the user in clear", kind, n)
		}
	}
	if _, err := s.pool.Exec(ctx, `UPDATE portcullis.refresh_families SET user_id = 'root'`); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refresh(ctx, token); !errors.Is(err, store.ErrUnreadable) {
		t.Errorf("a family that was given to another user: %v, want unreadable", err)
	}
	_, err = s.RevokeRefresh(ctx, tester, tenant, "web", token)
	check(t, err)
}

// The second use of a refresh token ends the family and denies what was made with
// it, in one write that stays although the call fails.
func TestReuseOfARefreshTokenIsCommitted(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	tenant := defaultTenant(t, s).ID
	first, second, third := store.Digest{1}, store.Digest{2}, store.Digest{3}
	access := func(id string, life time.Duration) store.AccessToken {
		return store.AccessToken{Issuer: "us", ID: id, Expires: clock.at.Add(life)}
	}
	_, err := s.StartFamily(ctx, tester, store.RefreshFamily{Family: [16]byte{7}, Tenant: tenant, Client: "web", User: "ann", Expires: clock.at.Add(time.Hour)},
		first, access("brief", time.Minute))
	check(t, err)
	clock.at = clock.at.Add(time.Minute + store.TokenSkew)
	_, _, err = s.UseRefresh(ctx, tester, tenant, "web", first, second, access("live", time.Minute))
	check(t, err)
	head, err := s.Head(ctx)
	check(t, err)
	_, result, err := s.UseRefresh(ctx, tester, tenant, "web", first, third, access("never", time.Minute))
	if !errors.Is(err, store.ErrReused) || result.Revision.Number != head.Revision.Number+1 {
		t.Fatalf("the second use: %v, %+v after %d", err, result, head.Revision.Number)
	}
	if got, want := marks(t, s), []store.Digest{store.DenyTokenDigest(tenant, "us", "live")}; !slices.Equal(got, want) {
		t.Errorf("denied are %v, want only the token that has not expired: %v", got, want)
	}
	if _, _, err := s.UseRefresh(ctx, tester, tenant, "web", second, third, access("never", time.Minute)); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("the live token of a family that was revoked: %v, want revoked", err)
	}
	clock.at = clock.at.Add(time.Hour)
	check(t, s.PruneRefresh(ctx))
	check(t, s.PruneDenials(ctx))
	var left int
	if err := s.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM portcullis.refresh_tokens) + (SELECT count(*) FROM portcullis.deny_list)`).Scan(&left); err != nil || left != 0 {
		t.Errorf("pruning left %d rows, %v", left, err)
	}
}

// A retry of a rotation without overlap presents a secret that is revoked by now:
// it must learn that there is a reply.
func TestRetriedRotationFindsItsReply(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	tenant := defaultTenant(t, s).ID
	former := store.NewKey{Tenant: tenant, Name: "ci", Digest: store.Digest{1}, Scopes: store.DefaultScopes()}
	_, _, err := s.CreateKey(ctx, tester, former)
	check(t, err)
	rotation := store.KeyRotation{Tenant: tenant, Name: "ci", Presented: former.Digest, ReplayID: store.Digest{9}, Reply: "sealed",
		ReplayUntil: clock.at.Add(10 * time.Minute), New: store.NewKey{Tenant: tenant, Name: "ci", Digest: store.Digest{2}, RotateAt: clock.at.Add(time.Hour)}}
	made, _, err := s.RotateKey(ctx, tester, rotation)
	check(t, err)
	if !made.RotateAt.Equal(clock.at.Add(time.Hour)) {
		t.Errorf("the new key is to be rotated at %v", made.RotateAt)
	}
	row, err := s.Key(ctx, former.Digest)
	check(t, err)
	if row.Key.Revoked.IsZero() {
		t.Error("the former secret still works")
	}
	if _, _, err := s.RotateKey(ctx, tester, rotation); !errors.Is(err, store.ErrExists) {
		t.Errorf("the retry: %v, want exists", err)
	}
	rotation.ReplayID = store.Digest{10}
	if _, _, err := s.RotateKey(ctx, tester, rotation); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("another rotation by the former secret: %v, want not found", err)
	}
	clock.at = clock.at.Add(10 * time.Minute)
	check(t, s.PruneReplays(ctx))
	if _, _, err := s.Replay(ctx, store.Digest{9}); !errors.Is(err, store.ErrExpired) {
		t.Errorf("a late retry: %v, want expired", err)
	}
	clock.at = clock.at.Add(24 * time.Hour)
	check(t, s.PruneReplays(ctx))
	if _, _, err := s.Replay(ctx, store.Digest{9}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a day later: %v, want not found", err)
	}
}

// What belongs to no tenant reaches readers by a delta: they need no tenant for it.
func TestChangesOfNoTenant(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	from, err := s.Head(ctx)
	check(t, err)
	for _, id := range []string{"first", "second"} {
		_, err = s.PublishSigningKey(ctx, tester, store.SigningKey{KeyID: id, Algorithm: "EdDSA", JWK: "{}"})
		check(t, err)
		_, err = s.SignWith(ctx, tester, id, clock.at.Add(time.Hour))
		check(t, err)
	}
	_, _, err = s.Deny(ctx, tester, store.NewDenial{Kind: store.DenyKey, Issuer: "us", Value: "first", Expires: clock.at.Add(time.Hour)})
	check(t, err)
	delta, err := s.Delta(ctx, from.Revision, nil)
	check(t, err)
	if len(delta.Tenants) != 0 || len(delta.Changes) != 5 || delta.Changes[4].Digest != store.DenyKeyDigest("us", "first") {
		t.Errorf("the delta has tenants %v, changes %+v", delta.Tenants, delta.Changes)
	}
	if keys := delta.Signing; len(keys) != 2 || !keys[0].Expires.Equal(clock.at.Add(time.Hour)) || !keys[1].Expires.IsZero() || keys[1].Signs.IsZero() {
		t.Errorf("the delta has the keys %+v", keys)
	}
	clock.at = clock.at.Add(time.Hour)
	base, err := s.Bootstrap(ctx, func(store.Digest) error { return nil })
	check(t, err)
	if len(base.Denied) != 0 || len(base.Signing) != 1 || base.Signing[0].KeyID != "second" {
		t.Errorf("when their time has passed a full load has %+v, %+v", base.Denied, base.Signing)
	}
	check(t, s.PruneSigningKeys(ctx, tester))
	before, err := s.Head(ctx)
	check(t, err)
	check(t, s.PruneSigningKeys(ctx, tester))
	if after, err := s.Head(ctx); err != nil || after != before {
		t.Errorf("pruning nothing took the revision from %v to %v, %v", before, after, err)
	}
}

// A tenant that is opened in a sealed database has a key of its own from its first
// row on, and the secret leads back to it under whatever name it bears.
func TestOpenedTenantIsSealed(t *testing.T) {
	s, _ := openSealable(t)
	ctx := context.Background()
	rotateAll(t, s, store.RotateEnable, nil)
	key := store.NewKey{Name: "web", Digest: store.Digest{5}, Scopes: store.DefaultScopes()}
	made, _, err := s.OpenTenant(ctx, tester, store.NewTenant{Name: "acme"}, key)
	check(t, err)
	if made.Key == 0 {
		t.Error("it is in clear")
	}
	_, err = s.RenameTenant(ctx, tester, made.ID, "apex")
	check(t, err)
	again, result, err := s.OpenTenant(ctx, tester, store.NewTenant{Name: "acme"}, key)
	check(t, err)
	if again.ID != made.ID || again.Name != "apex" || result.Outcome != store.OutcomeUnchanged {
		t.Errorf("opened again: %+v, %v", again, result.Outcome)
	}
	_, _, err = s.RevokeKeys(ctx, tester, made.ID, "web")
	check(t, err)
	if _, _, err := s.OpenTenant(ctx, tester, store.NewTenant{Name: "acme"}, key); !errors.Is(err, store.ErrRevoked) {
		t.Errorf("with a secret that was withdrawn: %v, want revoked", err)
	}
}

// marked says which programs may run on the database.
func marked(t *testing.T, s *Store) (reader, writer int64) {
	t.Helper()
	check(t, s.pool.QueryRow(context.Background(), `SELECT oldest_reader, oldest_writer FROM portcullis.compatibility`).Scan(&reader, &writer))
	return reader, writer
}

// A program that ignores the deny-list is kept out from the first entry on, whoever
// makes it, and after the database was sealed and opened again.
func TestTokensKeepOldProgramsOut(t *testing.T) {
	for what, write := range map[string]func(s *Store, clock *stepClock) error{
		"an entry": func(s *Store, clock *stepClock) error {
			_, _, err := s.Deny(context.Background(), tester, store.NewDenial{Kind: store.DenyKey, Issuer: "us", Value: "kid", Expires: clock.at.Add(time.Hour)})
			return err
		},
		"a signing key": func(s *Store, clock *stepClock) error {
			_, err := s.PublishSigningKey(context.Background(), tester, store.SigningKey{KeyID: "first", Algorithm: "EdDSA", JWK: "{}"})
			return err
		},
		"a client that is revoked": func(s *Store, clock *stepClock) error {
			tenant, err := s.TenantByName(context.Background(), store.DefaultTenant)
			if err != nil {
				return err
			}
			if _, _, err := s.CreateKey(context.Background(), tester, store.NewKey{Tenant: tenant.ID, Name: "ci", Digest: store.Digest{1}}); err != nil {
				return err
			}
			_, _, err = s.RevokeKeys(context.Background(), tester, tenant.ID, "ci")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			s, clock := openSealable(t)
			if reader, writer := marked(t, s); reader >= 4 || writer != 5 {
				t.Fatalf("before: readers from %d, writers from %d", reader, writer)
			}
			rotateAll(t, s, store.RotateEnable, nil)
			check(t, write(s, clock))
			rotateAll(t, s, store.RotateDisable, nil)
			if reader, writer := marked(t, s); reader != 4 || writer != 5 {
				t.Errorf("readers from %d, writers from %d, want 4 and 5", reader, writer)
			}
		})
	}
}

// A revoked client's tokens are denied in the same write, under the digest that a
// sidecar looks the client up by.
func TestRevokedClientIsDenied(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	rotateAll(t, s, store.RotateEnable, nil)
	tenant := defaultTenant(t, s)
	_, _, err := s.CreateKey(ctx, tester, store.NewKey{Tenant: tenant.ID, Name: "ci", Digest: store.Digest{1}})
	check(t, err)
	head, err := s.Head(ctx)
	check(t, err)
	_, result, err := s.RevokeKeys(ctx, tester, tenant.ID, "ci")
	check(t, err)
	index, err := s.PrincipalIndex(ctx, tenant.ID, tenant.Key, policy.KindClient, "ci")
	check(t, err)
	want := store.Change{Revision: result.Revision.Number, Kind: store.ChangeDenial, Tenant: tenant.ID, Digest: store.DenySubjectDigest(tenant.ID, index, ""),
		Before: clock.at.UnixNano(), Expires: clock.at.Add(store.OwnTokenReach).UnixNano()}
	delta, err := s.Delta(ctx, head.Revision, nil)
	check(t, err)
	if !slices.Contains(delta.Changes, want) {
		t.Errorf("the write logged %+v, want %+v among them", delta.Changes, want)
	}
}

// An entry that another process prunes while it is denied anew is not lost.
func TestPruningDoesNotTakeWhatIsDeniedAnew(t *testing.T) {
	s, clock := openSealable(t)
	ctx := context.Background()
	denial := store.NewDenial{Kind: store.DenyKey, Issuer: "us", Value: "kid", Expires: clock.at.Add(time.Hour)}
	_, _, err := s.Deny(ctx, tester, denial)
	check(t, err)
	clock.at = clock.at.Add(2 * time.Hour)
	pruning, err := s.pool.Begin(ctx)
	check(t, err)
	_, err = pruning.Exec(ctx, sqlPruneDenials, clock.at.UnixNano())
	check(t, err)
	denial.Expires = clock.at.Add(time.Hour)
	done := make(chan error, 1)
	go func() {
		_, _, err := s.Deny(ctx, tester, denial)
		done <- err
	}()
	eventually(t, "the write waits for the entry", func() bool {
		var waits bool
		check(t, s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits))
		return waits
	})
	check(t, pruning.Commit(ctx))
	check(t, <-done)
	if got, want := marks(t, s), []store.Digest{store.DenyKeyDigest("us", "kid")}; !slices.Equal(got, want) {
		t.Errorf("denied are %v, want %v", got, want)
	}
}

// No write about tokens takes a second connection: with one alone, all go through.
func TestTokensOverOneConnection(t *testing.T) {
	masters, err := sealing.ParseMasters(sealing.NewMaster())
	check(t, err)
	url := migrated(t)
	clock := &stepClock{at: time.Date(2030, 1, 2, 3, 4, 5, 600, time.UTC)}
	first, err := Open(context.Background(), Config{URL: url, Masters: masters, Now: clock.now})
	check(t, err)
	closeAtEnd(t, first)
	rotateAll(t, first, store.RotateEnable, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for what, write := range map[string]func(s *Store, tenant store.TenantID) error{
		"deny": func(s *Store, tenant store.TenantID) error {
			_, _, err := s.Deny(ctx, tester, store.NewDenial{Kind: store.DenySubject, Tenant: tenant, Value: "mallory", Principal: policy.KindUser, Before: clock.at, Expires: clock.at.Add(time.Hour)})
			return err
		},
		"family": func(s *Store, tenant store.TenantID) error {
			_, err := s.StartFamily(ctx, tester, store.RefreshFamily{Tenant: tenant, Client: "web", User: "ann", Expires: clock.at.Add(time.Hour)}, store.Digest{1}, store.AccessToken{ID: "jti", Expires: clock.at.Add(time.Minute)})
			return err
		},
		"import": func(s *Store, tenant store.TenantID) error {
			_, _, err := s.Import(ctx, tester, "auth", auths(tenant, clock.at), "1", true)
			return err
		},
	} {
		s, err := Open(context.Background(), Config{URL: url, Masters: masters, Now: clock.now, MaxConns: 1}) // its ring is empty
		check(t, err)
		if err := write(s, defaultTenant(t, first).ID); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		check(t, s.Close())
	}
}
