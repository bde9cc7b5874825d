package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

var rotationMembers = flag.Int("rotation-members", 4000, "how many memberships TestARotationIsKilledAndNothingIsLost seals anew")

// TestARotationIsKilledAndNothingIsLost: all rows get new keys while the gate
// answers 200 checks a second and 20 writes a second go on, and the command is
// killed five times on the way. No verdict is wrong, nothing is lost, and at the
// end nothing is under an old key.
func TestARotationIsKilledAndNothingIsLost(t *testing.T) {
	master := sealing.NewMaster()
	p := newPlace(t, "AUTH_ENCRYPTION_KEY="+master, "AUTH_DECISION_LOG=off")
	file := filepath.Join(p.dir, ".auth.sqlite3")
	p.run("role", "add", "reader")
	p.run("permission", "add", "reader", "view_content")
	members := *rotationMembers
	insertMembers(t, file, members)
	t.Log(p.run("rotate", "encryption", "--enable"))
	p.set("AUTH_ENABLE_ENCRYPTION", "true")
	policyFile := p.write("policy.yaml", "version: 1\nrules: [{name: read, path: /posts/1, require: view_content}]\n")
	s := p.start("serve", "--policy-file", policyFile)
	oldest := selectText(t, file, "SELECT max(id) FROM encryption_keys")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var load sync.WaitGroup
	var checks atomic.Int64
	load.Go(func() { checkMembers(ctx, t, s, members, &checks) })
	var late map[string]bool
	load.Go(func() { late = writeMembers(ctx, t, file, master) })

	for range 5 {
		run := p.begin("rotate", "encryption", "--deep", "--json")
		run.eventually("started", func() bool { return strings.Contains(run.stdout.String(), `"event":"started"`) })
		time.Sleep(rand.N(time.Duration(members) * 10 * time.Microsecond))
		run.signal(syscall.SIGKILL)
		_ = run.ended() // it was killed, or had finished before
	}
	code, stdout, stderr := p.try("rotate", "encryption", "--deep")
	if code != 0 {
		t.Fatalf("the last run: exit code %d\n%s%s", code, stdout, stderr)
	}
	t.Log(stderr + stdout)
	cancel()
	load.Wait()
	t.Logf("%d memberships, %d checks and %d writes meanwhile", members, checks.Load(), len(late))

	for what, want := range map[string]string{
		"SELECT count(*) FROM encryption_keys WHERE id <= " + oldest:                                                           "0",
		"SELECT count(*) FROM encryption WHERE rotation <> 0":                                                                  "0",
		"SELECT count(*) FROM tenant_keys WHERE former_key_id IS NOT NULL":                                                     "0",
		"SELECT count(*) FROM memberships m JOIN tenant_keys k ON k.tenant_id = m.tenant_id WHERE m.key_id <> k.key_id":        "0",
		"SELECT count(*) FROM permissions m JOIN tenant_keys k ON k.tenant_id = m.tenant_id WHERE m.key_id <> k.key_id":        "0",
		"SELECT count(*) FROM roles m JOIN tenant_keys k ON k.tenant_id = m.tenant_id WHERE m.key_id <> k.key_id":              "0",
		"SELECT count(*) FROM audit a JOIN tenant_keys k ON k.tenant_id = coalesce(a.tenant_id, 0) WHERE a.key_id <> k.key_id": "0",
	} {
		if got := selectText(t, file, what); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	held := strings.Count(p.run("member", "list", "reader", "--json"), `"id":"`)
	kept := 0
	for _, is := range late {
		if is {
			kept++
		}
	}
	if held != members+kept {
		t.Errorf("%d members, want %d and %d that came meanwhile", held, members, kept)
	}
	for user, is := range late {
		code, _, _ := p.try("check", "--path", "/posts/1", "--token", token(t, user))
		if (code == 0) != is {
			t.Errorf("%s is a member: %v; the gate's exit code is %d", user, is, code)
		}
	}
}

func memberName(i int) string { return fmt.Sprintf("user%06d@example.com", i) }

// insertMembers writes memberships of role 1 in clear, as the store would, and far
// faster.
func insertMembers(t *testing.T, file string, n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file://"+file+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		index := store.PlainIndex(1, policy.KindUser, memberName(i))
		if _, err := tx.Exec(`INSERT INTO memberships (tenant_id, principal_index, kind, principal_id, role_id) VALUES (1, ?, 1, ?, 1)`, index[:], memberName(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func selectText(t *testing.T, file, query string) string {
	t.Helper()
	out, err := testkit.SQLite(t.Context(), file, query)
	if err != nil || len(out) != 1 {
		t.Fatalf("%s: %q, %v", query, out, err)
	}
	return out[0]
}

func token(t *testing.T, user string) string {
	t.Helper()
	issuer, err := identity.NewIssuer(identity.IssuerConfig{Secret: []byte(testSecret)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := issuer.Issue(policy.Principal{Tenant: store.DefaultTenant, Kind: policy.KindUser, ID: user}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkMembers asks the gate about members and strangers, 200 times a second.
func checkMembers(ctx context.Context, t *testing.T, s *server, members int, done *atomic.Int64) {
	conn := s.dial()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		user, want := memberName(rand.N(members)), "ok"
		if rand.N(5) == 0 {
			user, want = "stranger-of-"+user, "missing_permission"
		}
		q := question{method: "GET", path: "/posts/1", host: "localhost", scheme: "http",
			headers: [][2]string{{policy.HeaderAuthorization, "Bearer " + token(t, user)}}}
		v, err := ask(ctx, conn, q)
		// A cold check on a machine short of CPU may not hear from the store within its
		// budget: a fault or a shed check is no verdict, and is asked again.
		for attempt := 1; attempt < 20 && err == nil && (v.Reason == policy.ReasonStoreUnavailable.String() || v.Reason == policy.ReasonOverloaded.String()); attempt++ {
			time.Sleep(50 * time.Millisecond)
			v, err = ask(ctx, conn, q)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil || v.Reason != want {
			t.Errorf("check of %s: %+v, %v, want %s", user, v, err, want)
			return
		}
		done.Add(1)
	}
}

// writeMembers makes memberships and takes every third back, 20 writes a second,
// and returns who was left a member and who was not.
func writeMembers(ctx context.Context, t *testing.T, file, master string) map[string]bool {
	masters, err := sealing.ParseMasters(master)
	if err != nil {
		t.Error(err)
		return nil
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: file, Masters: masters})
	if err != nil {
		t.Error(err)
		return nil
	}
	defer s.Close()
	out := map[string]bool{}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return out
		case <-tick.C:
		}
		user := fmt.Sprintf("late%d", n)
		if n%3 == 2 {
			user = last
		}
		last = user
		write := func() (store.Result, error) {
			if n%3 == 2 {
				return s.RemoveMember(t.Context(), store.Actor{Name: "cli"}, 1, policy.KindUser, user, "reader")
			}
			return s.AddMember(t.Context(), store.Actor{Name: "cli"}, 1, policy.KindUser, user, "reader", time.Time{})
		}
		r, err := write()
		has, hasErr := s.HasRole(t.Context(), 1, policy.KindUser, user, "reader", time.Now())
		out[user] = n%3 != 2
		if err = errors.Join(err, hasErr); err != nil || r.Outcome != store.OutcomeDone || has != out[user] {
			t.Errorf("write of %s: %+v, %v; it is a member: %v", user, r, err, has)
			return out
		}
	}
}
