package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// mastersEnv gives a helper its masters.
const mastersEnv = "PORTCULLIS_SQLITE_TEST_MASTERS"

// secretPrefix begins each name that must not be found in a sealed file.
const secretPrefix = "zq-secret-"

func mastersOf(t *testing.T, key string) *sealing.Masters {
	t.Helper()
	m, err := sealing.ParseMasters(key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// done ends the test unless the write was done.
func done(t *testing.T, r store.Result, err error) {
	t.Helper()
	if err != nil || r.Outcome != store.OutcomeDone {
		t.Fatalf("%v, %v; want done", r.Outcome, err)
	}
}

var cli = store.Actor{Name: "cli"}

// furnish fills tenant 1 with n memberships, of users, permissions, descriptions
// and labels with secret names, of which it deletes some again.
func furnish(t *testing.T, s *Store, n int) {
	t.Helper()
	ctx := t.Context()
	name := func(what string, i int) string { return fmt.Sprint(secretPrefix, what, i) }
	for i := range 4 {
		role := fmt.Sprint("role-", i)
		text := name("description", i)
		r, err := s.PutRole(ctx, cli, 1, role, &text)
		done(t, r, err)
		for p := range 4 {
			r, err := s.AddPermission(ctx, cli, 1, role, name("permission", p))
			done(t, r, err)
		}
		r, err = s.RemovePermission(ctx, cli, 1, role, name("permission", 3))
		done(t, r, err)
	}
	for i := range n {
		r, err := s.AddMember(ctx, cli, 1, policy.KindUser, name("user", i), fmt.Sprint("role-", i%3), time.Time{})
		done(t, r, err)
		if i%5 == 0 {
			r, err := s.RemoveMember(ctx, cli, 1, policy.KindUser, name("user", i), fmt.Sprint("role-", i%3))
			done(t, r, err)
		}
	}
	r, err := s.DeleteRole(ctx, cli, 1, "role-3")
	done(t, r, err)
}

// rotateTenants takes every tenant through the rotation that was begun.
func rotateTenants(t *testing.T, s *Store, leave func(error)) {
	t.Helper()
	if err := rotateAll(t.Context(), s, 200, leave, func(string) {}); err != nil {
		t.Fatal(err)
	}
}

// rotateAll takes every tenant through the rotation under way, and tells each step
// before it takes it.
func rotateAll(ctx context.Context, s *Store, limit int, leave func(error), tell func(step string)) error {
	for {
		tenants, err := s.RotationTenants(ctx, 1)
		if err != nil || len(tenants) == 0 {
			return err
		}
		tell("begin")
		if _, err := s.BeginTenant(ctx, cli, tenants[0]); err != nil {
			return err
		}
		var at store.ResealCursor
		for done := false; !done; {
			tell("reseal")
			if at, _, done, err = s.Reseal(ctx, tenants[0], at, limit, leave); err != nil {
				return err
			}
		}
		tell("end")
		if _, err := s.FinishTenant(ctx, cli, tenants[0]); err != nil {
			return err
		}
	}
}

func rotate(t *testing.T, s *Store, kind store.RotationKind) {
	t.Helper()
	r, err := s.BeginRotation(t.Context(), cli, kind)
	done(t, r, err)
	rotateTenants(t, s, nil)
	r, err = s.FinishRotation(t.Context(), cli)
	done(t, r, err)
}

// inFiles says in which of the store's files a text is. Another process reads them:
// this one would lose its locks on a file that it closes (POSIX has it so).
func inFiles(t *testing.T, path string, text []byte) (names []string) {
	t.Helper()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		raw, err := exec.CommandContext(t.Context(), "cat", path+suffix).Output()
		if err != nil {
			t.Fatalf("%s%s: %v", path, suffix, err)
		}
		if bytes.Contains(raw, text) {
			names = append(names, "file"+suffix)
		}
	}
	return names
}

// helperBusy reads and writes without end, and ends by itself with the first call
// that fails. It tells when it is at work, and its sum when its input ends.
func helperBusy(path string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
	masters, err := sealing.ParseMasters(os.Getenv(mastersEnv))
	fail(err)
	ctx, stop := context.WithCancel(context.Background())
	s, err := Open(ctx, Config{Path: path, Masters: masters})
	fail(err)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends when the test closes it
		stop()
	}()
	reads := make(chan int)
	for range 2 {
		go func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				_, err := s.MemberList(context.Background(), 1, "role-1")
				fail(err)
				_, err = s.Roles(context.Background(), 1)
				fail(err)
			}
			reads <- n
		}()
	}
	writes := 0
	for ; ctx.Err() == nil; writes++ {
		name := fmt.Sprint("busy-", writes%20)
		_, err := s.PutRole(context.Background(), store.Actor{Name: "busy"}, 1, name, nil)
		fail(err)
		_, err = s.AddMember(context.Background(), store.Actor{Name: "busy"}, 1, policy.KindUser, "busy", name, time.Time{})
		fail(err)
		_, err = s.DeleteRole(context.Background(), store.Actor{Name: "busy"}, 1, name)
		fail(err)
		if writes == 0 {
			fmt.Println("at work")
		}
		time.Sleep(2 * time.Millisecond)
	}
	fmt.Println("reads", <-reads+<-reads, "writes", writes)
	fail(s.Close())
	os.Exit(0)
}

// busyProcess runs helperBusy; stop ends it, and the test where one of its calls
// failed.
func busyProcess(t *testing.T, path, master string) (stop func()) {
	t.Helper()
	cmd := helper(t, "busy", path)
	cmd.Env = append(cmd.Env, mastersEnv+"="+master)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "at work\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	return func() {
		t.Helper()
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(lines)
		if err := errors.Join(err, cmd.Wait()); err != nil || !strings.HasPrefix(string(said), "reads ") {
			t.Errorf("the other process: %s %v", said, err)
		}
		t.Logf("the other process: %s", said)
	}
}

// TestNothingIsLeftInTheFile: after a database in clear was sealed, its files hold
// no name that is or was in it, also while another process reads and writes, none
// of whose calls fails. After new keys were made, they hold nothing that was sealed
// under the former ones.
func TestNothingIsLeftInTheFile(t *testing.T) {
	master := sealing.NewMaster()
	path := filepath.Join(t.TempDir(), "store.db")
	s := openWith(t, Config{Path: path, Masters: mastersOf(t, master)})
	furnish(t, s, 60)
	// What a program that overwrites nothing, such as a shell, has deleted.
	if _, err := past(t, s).Exec(`PRAGMA secure_delete = 0; PRAGMA foreign_keys = 0;
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
		INSERT INTO memberships (tenant_id, principal_index, kind, principal_id, role_id)
			SELECT 1, randomblob(16), 1, '` + secretPrefix + `shell', 1 FROM n;
		DELETE FROM memberships WHERE principal_id = '` + secretPrefix + `shell'`); err != nil {
		t.Fatal(err)
	}
	secret := []byte(secretPrefix)
	if in := inFiles(t, path, secret); len(in) == 0 {
		t.Fatal("no name is in the files to begin with: the test proves nothing")
	}
	stop := busyProcess(t, path, master)
	rotate(t, s, store.RotateEnable)
	if in := inFiles(t, path, secret); len(in) > 0 {
		t.Errorf("sealed, and names are in %v", in)
	}

	var former []string // a sample of what is sealed under the keys to be replaced
	rows, err := past(t, s).Query(`SELECT principal_id FROM memberships WHERE role_id IN (SELECT id FROM roles WHERE name LIKE 'role-%')
		UNION ALL SELECT name FROM permissions UNION ALL SELECT sealed FROM (SELECT sealed FROM audit WHERE sealed IS NOT NULL ORDER BY id LIMIT 50)
		UNION ALL SELECT wrapped FROM encryption_keys`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		former = append(former, text)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || len(former) < 50 {
		t.Fatalf("%d values, %v", len(former), err)
	}
	rotate(t, s, store.RotateDeep)
	for _, text := range former {
		if in := inFiles(t, path, []byte(text)); len(in) > 0 {
			t.Fatalf("new keys, and what was sealed under the former ones is in %v", in)
		}
	}
	if in := inFiles(t, path, secret); len(in) > 0 {
		t.Errorf("new keys, and names are in %v", in)
	}
	stop()
	if list, err := s.MemberList(t.Context(), 1, "role-1"); err != nil || len(list) != 16 {
		t.Errorf("%d members, %v; want the 20 less the 4 that were removed", len(list), err)
	}
	rotate(t, s, store.RotateDisable)
	if in := inFiles(t, path, secret); len(in) == 0 {
		t.Error("in clear again, and no name is to be found: the search finds nothing")
	}
}

// TestScrubUnderAReader: a reader who stays keeps what was replaced in the WAL. The
// rotation says so and stays under way, reads and writes go on, and it ends once the
// reader has.
func TestScrubUnderAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openWith(t, Config{Path: path, Masters: mastersOf(t, sealing.NewMaster()), LockTimeout: time.Second})
	furnish(t, s, 10)
	ctx := t.Context()
	r, err := s.BeginRotation(ctx, cli, store.RotateEnable)
	done(t, r, err)
	reader, err := past(t, s).BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRow(`SELECT count(*) FROM memberships`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	rotateTenants(t, s, nil)
	// Another handle, as of another process, whose writes get in while the scrub waits.
	other := openWith(t, Config{Path: path, Masters: s.cfg.Masters})
	var wrote atomic.Int64
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := other.PutRole(context.Background(), cli, 1, fmt.Sprint("other-", n), nil); err != nil {
				t.Errorf("write %d of another process: %v", n, err)
				return
			}
			wrote.Add(1)
			time.Sleep(5 * time.Millisecond) // a busy server, and not one that keeps the lock for itself
		}
	}()
	for range 2 {
		before := wrote.Load()
		_, err = s.FinishRotation(ctx, cli)
		if n := wrote.Load() - before; n < 2 { // one may have been under way at either end
			t.Errorf("%d writes of another process got in", n)
		}
		if err == nil || !strings.Contains(err.Error(), path+"-wal cannot be cut") || !strings.Contains(err.Error(), "run the same command again") {
			t.Fatalf("under a reader: %v", err)
		}
		state, err := s.Encryption(ctx)
		if err != nil || state.Rotation != store.RotateEnable {
			t.Errorf("under a reader: %+v, %v; want the rotation under way", state, err)
		}
		putRole(t, s, "made-under-the-reader")
		if _, err := s.DeleteRole(ctx, cli, 1, "made-under-the-reader"); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-ended
	t.Logf("%d writes of another process", wrote.Load())
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	r, err = s.FinishRotation(ctx, cli)
	done(t, r, err)
	if in := inFiles(t, path, []byte(secretPrefix)); len(in) > 0 {
		t.Errorf("names are in %v", in)
	}
}

// TestDisablingTakesNothingOut: what is written in clear has nothing to hide, and a
// reader who stays is not in its way.
func TestDisablingTakesNothingOut(t *testing.T) {
	s := openWith(t, Config{Path: filepath.Join(t.TempDir(), "store.db"), Masters: mastersOf(t, sealing.NewMaster()), LockTimeout: quickLock})
	furnish(t, s, 10)
	rotate(t, s, store.RotateEnable)
	reader, err := past(t, s).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback()
	var n int
	if err := reader.QueryRow(`SELECT count(*) FROM memberships`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	rotate(t, s, store.RotateDisable)
}

// helperRotate goes on with a rotation, a few rows a batch, and tells each step
// before it takes it.
func helperRotate(path string) {
	err := func() error {
		masters, err := sealing.ParseMasters(os.Getenv(mastersEnv))
		if err != nil {
			return err
		}
		ctx := context.Background()
		s, err := Open(ctx, Config{Path: path, Masters: masters})
		if err != nil {
			return err
		}
		tell := func(step string) { fmt.Println(step) } // one unbuffered write each
		state, err := s.Encryption(ctx)
		if err != nil {
			return err
		}
		if state.Rotation == 0 {
			if _, err := s.BeginRotation(ctx, cli, store.RotateDeep); err != nil {
				return err
			}
		}
		if err := rotateAll(ctx, s, 2, nil, tell); err != nil {
			return err
		}
		tell("finish")
		if _, err := s.FinishRotation(ctx, cli); err != nil {
			return err
		}
		tell("done")
		return s.Close()
	}()
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestRotationKilled kills the process that rotates, in the middle of what it does to
// rows and of what it does to the file: the next one takes it up, and nothing is
// lost or left under the former keys.
func TestRotationKilled(t *testing.T) {
	master := sealing.NewMaster()
	path := filepath.Join(t.TempDir(), "store.db")
	cfg := Config{Path: path, Masters: mastersOf(t, master)}
	s := openWith(t, cfg)
	furnish(t, s, 300)
	rotate(t, s, store.RotateEnable)
	look := membersOf(t, s)
	db := past(t, s)
	var before int64
	if err := db.QueryRow(`SELECT max(id) FROM encryption_keys`).Scan(&before); err != nil {
		t.Fatal(err)
	}
	// run goes on until the step was told so many times, and kills soon after; it says
	// whether the process was killed in it.
	run := func(step string, times int, within time.Duration) (ended bool) {
		t.Helper()
		cmd := helper(t, "rotate", path)
		cmd.Env = append(cmd.Env, mastersEnv+"="+master)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := ""
		for lines.Scan() {
			last = lines.Text()
			if strings.HasPrefix(last, "failed") {
				t.Fatal(last)
			}
			if last != step {
				continue
			}
			if times--; times == 0 {
				time.AfterFunc(rand.N(within), func() { _ = cmd.Process.Kill() })
			}
		}
		waited := cmd.Wait()
		var exit *exec.ExitError
		if waited != nil && (!errors.As(waited, &exit) || exit.ExitCode() != -1) {
			t.Fatalf("after %q: %v", last, waited)
		}
		if got := membersOf(t, openWith(t, cfg)); got != look {
			t.Fatalf("killed after %q: the memberships read otherwise\n%.300s\n%.300s", last, got, look)
		}
		var ok string
		if err := db.QueryRow(`PRAGMA integrity_check`).Scan(&ok); err != nil || ok != "ok" {
			t.Fatalf("killed after %q: %s, %v", last, ok, err)
		}
		return last == "done"
	}
	for range 6 {
		if run("reseal", 5+rand.N(10), 4*time.Millisecond) {
			t.Fatal("the rotation ended before it was killed often enough: give it more rows")
		}
	}
	ended, killed := false, 0
	for ; killed < 8 && !ended; killed++ {
		ended = run("finish", 1, 10*time.Millisecond) // unless it was quicker
	}
	t.Logf("killed %d times at the end, where it ended by itself: %v", killed, ended)
	for !ended {
		ended = run("never", 1, time.Second)
	}
	for table := range store.NumSealTables {
		column := "key_id"
		if table == store.SealUserKeys {
			column = "seal_key_id"
		}
		var n int64
		if err := db.QueryRow(fmt.Sprintf(`SELECT count(*) FROM %s WHERE %s <= ?`, table, column), before).Scan(&n); err != nil || n > 0 {
			t.Errorf("%d rows of %s are under a former key, %v", n, table, err)
		}
	}
	if state, err := s.Encryption(t.Context()); err != nil || state.Rotation != 0 || state.Keys != 2 {
		t.Errorf("at the end %+v, %v; want no rotation, and a key for default and one for what belongs to no tenant", state, err)
	}
}

// membersOf puts all that tenant 1's roles are and who holds them into words.
func membersOf(t *testing.T, s *Store) string {
	t.Helper()
	var text strings.Builder
	roles, err := s.RoleList(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roles {
		members, err := s.MemberList(t.Context(), 1, role.Name)
		if err != nil {
			t.Fatal(err)
		}
		permissions, err := s.PermissionList(t.Context(), 1, role.Name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%+v %+v %q\n", role, members, permissions)
	}
	return text.String()
}
