package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portcullis/internal/testkit"
)

// underUmask starts the program as a shell with that umask does.
func (p *place) underUmask(umask string, args ...string) *server {
	p.t.Helper()
	program, err := exec.LookPath("portcullis")
	if err != nil {
		p.t.Fatal(err)
	}
	s := &server{t: p.t, place: p, stderr: &lockedBuffer{}, stdout: &lockedBuffer{}}
	s.cmd = exec.Command("/bin/sh", append([]string{"-c", `umask "$1"; shift; exec "$@"`, "sh", umask, program}, args...)...)
	s.cmd.Dir, s.cmd.Env = p.dir, p.env
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	if s.exited, err = testkit.StartBound(s.cmd); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { s.cmd.Process.Kill() })
	return s
}

func TestTheStoreIsPrivateUnderTheShellsUmask(t *testing.T) {
	for _, umask := range []string{"000", "022", "077", "277", "777"} {
		t.Run(umask, func(t *testing.T) {
			p := newPlace(t)
			s := p.underUmask(umask, "serve")
			s.eventually("serving", func() bool { return strings.Contains(s.stderr.String(), `"listener":"metrics"`) })
			p.run("role", "add", "editor")
			backup := p.underUmask(umask, "backup", "copy.db")
			if err := backup.ended(); err != nil {
				t.Fatalf("backup: %v\n%s", err, backup.stderr)
			}
			for _, name := range []string{".auth.sqlite3", ".auth.sqlite3-wal", ".auth.sqlite3-shm", "copy.db"} {
				info, err := os.Lstat(filepath.Join(p.dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode() != 0o600 {
					t.Errorf("%s has mode %v", name, info.Mode())
				}
			}
		})
	}
}

func TestALinkInTheStoresPlaceIsRefused(t *testing.T) {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		for _, dangling := range []bool{false, true} {
			t.Run(fmt.Sprintf("store%s, dangling %v", suffix, dangling), func(t *testing.T) {
				p := newPlace(t)
				if suffix != "" {
					p.run("role", "add", "editor")
				}
				target := filepath.Join(p.dir, "target")
				if !dangling {
					p.write("target", "somebody's")
				}
				link := filepath.Join(p.dir, ".auth.sqlite3"+suffix)
				if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				if err := os.Symlink(target, link); err != nil {
					t.Fatal(err)
				}
				for _, args := range [][]string{{"serve"}, {"admin"}, {"sidecar"}, {"role", "list"}, {"backup", "copy.db"}} {
					code, _, stderr := p.try(args...)
					if code != int(exitUsage) || !strings.Contains(stderr, link+" is a symbolic link: name the file itself") {
						t.Errorf("%v: exit code %d, %s", args, code, stderr)
					}
				}
				text, err := os.ReadFile(target)
				if dangling && !os.IsNotExist(err) || !dangling && string(text) != "somebody's" {
					t.Errorf("the link's target holds %q, error %v", text, err)
				}
			})
		}
	}
}

// TestServingOutlivesAFullDisk: checks and reads go on, a write says why it fails,
// and the next one after there is room works.
func TestServingOutlivesAFullDisk(t *testing.T) {
	p := newPlace(t)
	disk := testkit.Disk(t, 8<<20)
	p.set("AUTH_SQLITE_PATH", filepath.Join(disk, "store.db"))
	s := p.start("serve")
	p.run("role", "add", "editor")
	revision := func() string { _, out, _ := p.try("audit", "list", "--limit", "1", "--json"); return out }
	before := revision()

	ballast := testkit.LeaveOnDisk(t, disk, 0)
	code, _, stderr := p.try("role", "add", "viewer", "--json")
	for i := 0; code == 0 && i < 1000; i++ { // there may be room in the -wal
		before = revision()
		code, _, stderr = p.try("role", "add", fmt.Sprint("viewer", i), "--json")
	}
	if code != int(exitUnavailable) || !strings.Contains(stderr, "no room to write "+filepath.Join(disk, "store.db")+": free space on its disk") {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	if after := revision(); after != before {
		t.Errorf("the audit's last row is %s, was %s", after, before)
	}
	if status, body := s.get("/readyz"); status != 200 {
		t.Errorf("the gate is not ready: %s", body)
	}
	if out := p.run("role", "list"); !strings.Contains(out, "editor") {
		t.Errorf("roles: %s", out)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.run("role", "add", "after")
	p.run("backup", filepath.Join(p.dir, "copy.db"))
	if out := p.run("role", "list", "--sqlite-path", filepath.Join(p.dir, "copy.db")); !strings.Contains(out, "after") {
		t.Errorf("roles in the copy: %s", out)
	}
}
