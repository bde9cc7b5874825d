package extauthz

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"

	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/policy"
)

// rotate takes the store through a rotation of its encryption keys, and waits for
// each step until the gate, where it runs, has applied it. between, which may be nil, is
// called before each step.
func (g *gate) rotate(kind store.RotationKind, between func()) {
	g.Helper()
	ctx, by := context.Background(), store.Actor{Name: "test"}
	step := func(r store.Result, err error) {
		g.Helper()
		g.must(err)
		if g.cache.Snapshot() != nil {
			g.applied(r)
		}
		if between != nil {
			between()
		}
	}
	step(g.store.BeginRotation(ctx, by, kind))
	for {
		tenants, err := g.store.RotationTenants(ctx, 1)
		g.must(err)
		if len(tenants) == 0 {
			break
		}
		step(g.store.BeginTenant(ctx, by, tenants[0]))
		var at store.ResealCursor
		for done := false; !done; {
			at, _, done, err = g.store.Reseal(ctx, tenants[0], at, 3, nil)
			step(store.Result{}, err)
		}
		step(g.store.FinishTenant(ctx, by, tenants[0]))
	}
	step(g.store.FinishRotation(ctx, by))
}

// tamper changes the store's file past the store, as other hands would.
func (g *gate) tamper(query string, args ...any) {
	g.Helper()
	db, err := sql.Open("sqlite", "file:"+g.file+"?_pragma=busy_timeout(10000)")
	g.must(err)
	defer db.Close()
	r, err := db.Exec(query, args...)
	g.must(err)
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		g.Fatalf("%s: no row, %v", query, err)
	}
}

// reopen opens the store anew, as another process would: no key is in its memory.
// The gate does not run yet.
func (g *gate) reopen() {
	g.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Path: g.file, Masters: g.masters})
	g.must(err)
	g.store.Store = s
	g.Cleanup(func() { g.must(s.Close()) })
}

// What does not open is denied, whatever the settings make of faults: none may let
// it through. What depends on something else is answered as ever, and so is it
// itself once it is mended.
func TestWhatDoesNotOpenIsDenied(t *testing.T) {
	for _, faults := range []Faults{FaultsErrorResponse, FaultsUnavailable} {
		for name, c := range map[string]struct {
			table, column string
			asks          func(g *gate) request
			want          string
		}{
			"a membership":       {"memberships", "principal_id", func(g *gate) request { return request{path: "/posts/1", headers: bearer(g.token("ann"))} }, "internal"},
			"a workload's":       {"memberships", "principal_id", func(*gate) request { return request{path: "/stock/17", peer: cart} }, "internal"},
			"an API key's user":  {"user_keys", "user_id", func(g *gate) request { return request{path: "/me", headers: apiKey(g.apiKey["default/ann"])} }, "internal"},
			"the encryption key": {"encryption_keys", "wrapped", func(g *gate) request { return request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])} }, "internal"},
			"a permission":       {"permissions", "name", func(g *gate) request { return request{path: "/posts/1", headers: bearer(g.token("ann"))} }, "missing_permission"},
		} {
			t.Run(fmt.Sprintf("%s, faults as %s", name, faults), func(t *testing.T) {
				g := bareGate(t, func(cfg *Config) { cfg.Faults = faults }, patient)
				g.rotate(store.RotateEnable, nil)
				g.reopen()
				g.run()
				r, def := c.asks(g), g.tenant("default").ID
				g.tamper(fmt.Sprintf("UPDATE %[1]s SET %[2]s = substr(%[2]s, 1, 80) || '?' || substr(%[2]s, 81) WHERE tenant_id = %[3]d", c.table, c.column, def))
				for range 3 {
					before := g.store.loads.Load()
					response := g.ask(r) // an error of the call, as faults may be, ends the test
					if got := g.verdictOf(response); got != c.want || response.GetDeniedResponse() == nil {
						t.Errorf("got %s, want the denial %s", got, c.want)
					}
					if c.want == "internal" && c.table != "encryption_keys" && g.store.loads.Load() == before {
						t.Error("it was answered from memory")
					}
				}
				g.expect("ok", request{path: "/partner/x", headers: bearer(g.token("globex/gil"))})
				g.expect("ok", request{path: "/healthz"})
				g.expect("missing_credential", request{path: "/posts/1"})
				g.tamper(fmt.Sprintf("UPDATE %[1]s SET %[2]s = replace(%[2]s, '?', '') WHERE tenant_id = %[3]d", c.table, c.column, def))
				if c.want == "missing_permission" || c.table == "encryption_keys" {
					// Its tenant's role table was read as far as it opens, and is read anew when
					// it changes.
					result, err := g.store.PutRole(context.Background(), store.Actor{Name: "test"}, def, "other", nil)
					g.must(err)
					g.applied(result)
				}
				g.expect("ok", r)
			})
		}
	}
}

// Checks go on while every tenant gets other keys, and each is answered from the
// store as it is.
func TestChecksGoOnThroughRotations(t *testing.T) {
	g := patientGate(t, nil)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for who, want := range map[string]string{"ann": "ok", "bob": "missing_permission", "eve": "missing_permission"} {
		r := marshal(t, request{path: "/posts/1", method: "PUT", headers: bearer(g.token(who))}.message())
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := g.verdictOf(g.askBytes(r)); got != want {
					t.Errorf("%s: got %s, want %s", who, got, want)
					return
				}
			}
		})
	}
	defer func() { close(stop); asking.Wait() }()
	cold := 0
	for _, kind := range []store.RotationKind{store.RotateEnable, store.RotateDeep, store.RotateDeep, store.RotateDisable, store.RotateEnable} {
		g.rotate(kind, func() {
			// Somebody whose index is in no memory, and somebody by a key.
			cold++
			g.expect("missing_permission", request{path: "/posts/1", headers: bearer(g.token(fmt.Sprint("nobody", cold)))})
			g.expect("ok", request{path: "/posts/1", headers: apiKey(g.apiKey["default/ann"])})
			g.expect("ok", request{path: "/posts/1", headers: clientKey(g.keys["default/ci"])})
			g.expect("ok", request{path: "/stock/17", peer: cart})
			g.expect("ok", request{path: "/partner/x", headers: bearer(g.token("globex/gil"))})
		})
	}
}

// A revocation bites under the new key as it did under the old one, for credentials
// that were in memory all along.
func TestRevocationsAcrossAChangeOfTheKey(t *testing.T) {
	g := patientGate(t, nil)
	g.rotate(store.RotateEnable, nil)
	asks := []request{
		{path: "/posts/1", headers: bearer(g.token("bob"))},
		{path: "/posts/1", headers: apiKey(g.apiKey["default/bob"])},
	}
	for _, r := range asks {
		g.warm("ok", r)
	}
	g.rotate(store.RotateDeep, nil)
	for _, r := range asks {
		g.warm("ok", r)
	}
	r, err := g.store.RemoveMember(context.Background(), store.Actor{Name: "test"}, g.tenant("default").ID, policy.KindUser, "bob", "viewer")
	g.must(err)
	g.applied(r)
	for _, r := range asks {
		g.expect("missing_permission", r)
	}
}
