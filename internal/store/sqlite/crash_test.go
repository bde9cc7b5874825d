package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// helperEnv makes the test binary run one of helpers in place of the tests.
const helperEnv = "PORTCULLIS_SQLITE_TEST_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		os.Exit(m.Run())
	case "write":
		helperWrite(os.Args[1])
	case "read-only":
		helperReadOnly(os.Args[1])
	case "backup":
		helperBackup(os.Args[1])
	case "busy":
		helperBusy(os.Args[1])
	case "rotate":
		helperRotate(os.Args[1])
	}
}

// helper is the test binary as another process.
func helper(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, path)
	cmd.Env = append(os.Environ(), helperEnv+"="+what)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// helperWrite writes until it is killed, and tells each revision once the write
// that made it has returned.
func helperWrite(path string) {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	by := store.Actor{Name: "writer"}
	done := make(chan store.Revision)
	for range 3 {
		go func() {
			for {
				name := fmt.Sprint("role", rand.Uint64())
				if r, err := s.PutRole(ctx, by, 1, name, nil); err == nil {
					done <- r.Revision
				}
				if r, err := s.AddMember(ctx, by, 1, policy.KindUser, "alice", name, time.Time{}); err == nil {
					done <- r.Revision
				}
				if rand.N(2) == 0 {
					if r, err := s.DeleteRole(ctx, by, 1, name); err == nil {
						done <- r.Revision
					}
				}
			}
		}()
	}
	for r := range done {
		fmt.Printf("%d %s\n", r.Number, r.Tag) // one unbuffered write each
	}
}

// TestKilled kills a writing process again and again: what it was told is done
// is there, and every write is there whole or not at all.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := openTest(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	acknowledged := make(map[int64]string)
	for range 15 {
		cmd := helper(t, "write", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		after := 5 + rand.N(30)
		for n := 1; ; n++ {
			line, err := lines.ReadString('\n')
			if err == io.EOF { // a line that was cut off was not heard
				if n <= after {
					t.Fatalf("the writer ended by itself after %d lines", n-1)
				}
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			var number int64
			var tag string
			if _, err := fmt.Sscan(line, &number, &tag); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			acknowledged[number] = tag
			if n == after { // somewhere in the writes that follow
				time.AfterFunc(rand.N(3*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // killed, as it should be
		checkWhole(t, path, acknowledged)
	}
	t.Logf("%d acknowledged writes", len(acknowledged))
}

// checkWhole opens what a killed process has left.
func checkWhole(t *testing.T, path string, acknowledged map[int64]string) {
	t.Helper()
	s := openTest(t, path)
	defer s.Close()
	one := func(want, query string) {
		t.Helper()
		var got string
		if err := s.reader.db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s\n got %q, error %v; want %q", query, got, err, want)
		}
	}
	one("ok", `PRAGMA integrity_check`)
	one("0", `SELECT count(*) FROM pragma_foreign_key_check`)
	// One audit row and one change row for each revision but the first, no gap.
	one("0", `SELECT (SELECT number FROM revision) - (SELECT max(revision) FROM revision_log)`)
	one("0", `SELECT (SELECT number FROM revision) - (SELECT count(*) FROM revision_log)`)
	one("0", `SELECT (SELECT number FROM revision) - 1 - (SELECT count(DISTINCT revision) FROM audit)`)
	one("0", `SELECT (SELECT number FROM revision) - 1 - (SELECT count(*) FROM audit)`)
	one("0", `SELECT (SELECT count(*) FROM audit WHERE outcome = 'done') - (SELECT count(*) FROM change_log)`)
	// The tables are what the trail says.
	one("0", `SELECT (SELECT count(*) FROM roles) - (SELECT sum(CASE action WHEN 'CREATE_ROLE' THEN 1 WHEN 'DELETE_ROLE' THEN -1 ELSE 0 END) FROM audit)`)
	one("0", `SELECT count(*) FROM memberships WHERE role_id NOT IN (SELECT id FROM roles)`)
	held := make(map[int64]string)
	rows, err := s.reader.db.Query(`SELECT revision, lower(hex(tag)) FROM revision_log`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		var tag string
		if err := rows.Scan(&number, &tag); err != nil {
			t.Fatal(err)
		}
		held[number] = tag
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for number, tag := range acknowledged {
		if held[number] != tag {
			t.Errorf("revision %d was acknowledged with tag %s, the log has %q", number, tag, held[number])
		}
	}
}

// helperReadOnly opens the file, as a user who may not write it, and tells what
// came of it.
func helperReadOnly(path string) {
	ctx := context.Background()
	s, err := Open(ctx, Config{Path: path})
	if err == nil {
		_, err = s.PutRole(ctx, store.Actor{Name: "cli"}, 1, "editor", nil)
	}
	fmt.Println(err)
}

// TestNotWritable tries what an honest mistake in permissions leads to, as a
// user whom permissions hold.
func TestNotWritable(t *testing.T) {
	const nobody = 65534
	for _, c := range []struct {
		name      string
		dir, file os.FileMode // file 0: there is none
		want      string
	}{
		{"a directory that is not writable, without a file", 0o500, 0, "cannot be created: make the directory"},
		{"a directory that is not writable", 0o500, 0o600, "cannot be written: make the file"},
		{"a file that is not writable", 0o700, 0o400, "cannot be written"},
		{"a file that is not readable", 0o700, 0o200, "cannot be opened"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "store.db")
			cmd := helper(t, "read-only", path)
			owned := []string{dir}
			if c.file != 0 {
				if err := openTest(t, path).Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, c.file); err != nil {
					t.Fatal(err)
				}
				owned = append(owned, path)
			}
			if os.Geteuid() == 0 {
				becomeUser(t, cmd, nobody, owned)
			}
			if err := os.Chmod(dir, c.dir); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(dir, 0o700) // for its removal
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := string(out); !strings.Contains(got, c.want) || !strings.Contains(got, path) {
				t.Errorf("error %q, want one that names the file and says %q", got, c.want)
			}
		})
	}
}

// becomeUser makes cmd run as the user, who gets the files and a copy of the
// test binary that they can reach.
func becomeUser(t *testing.T, cmd *exec.Cmd, user int, files []string) {
	t.Helper()
	for _, file := range files {
		if err := os.Chown(file, user, user); err != nil {
			t.Fatal(err)
		}
	}
	bin := t.TempDir()
	for _, dir := range []string{filepath.Dir(bin), bin} { // the parent of both temporary folders
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = filepath.Join(bin, "sqlite.test")
	if err := os.WriteFile(cmd.Path, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
}
