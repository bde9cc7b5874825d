package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portcullis/internal/store"
)

// refused opens path and returns the error's text, which must hold each of the
// wants.
func refused(t *testing.T, path string, wants ...string) error {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: path})
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", path)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	return err
}

func putRole(t *testing.T, s *Store, name string) {
	t.Helper()
	if _, err := s.PutRole(context.Background(), store.Actor{Name: "cli"}, 1, name, nil); err != nil {
		t.Fatal(err)
	}
}

func TestFilesArePrivateUnderAnyUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o277, 0o777} {
		t.Run(fmt.Sprintf("%04o", umask), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			defer syscall.Umask(syscall.Umask(umask))
			s := openTest(t, path)
			putRole(t, s, "editor")
			for _, suffix := range []string{"", "-wal", "-shm"} {
				info, err := os.Lstat(path + suffix)
				if err != nil {
					t.Fatal(err)
				}
				if got := info.Mode(); got != 0o600 {
					t.Errorf("store.db%s has mode %v", suffix, got)
				}
			}
		})
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	made := func(t *testing.T) string {
		path := filepath.Join(t.TempDir(), "store.db")
		s := openTest(t, path)
		putRole(t, s, "editor")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o602, 0o700, 0o644} {
		t.Run(fmt.Sprintf("mode %04o", mode), func(t *testing.T) {
			path := made(t)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			refused(t, path, fmt.Sprintf("mode %04o", mode), "chmod 600 "+path)
			if err := os.Chmod(path, 0o600); err != nil { // as the error says
				t.Fatal(err)
			}
			openTest(t, path)
		})
	}
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		t.Run("a wide store.db"+suffix, func(t *testing.T) {
			path := made(t)
			if err := os.WriteFile(path+suffix, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path+suffix, 0o644); err != nil {
				t.Fatal(err)
			}
			refused(t, path, "chmod 600 "+path+suffix)
		})
		t.Run("a link for store.db"+suffix, func(t *testing.T) {
			path := made(t)
			if err := os.Symlink(filepath.Join(t.TempDir(), "target"), path+suffix); err != nil {
				t.Fatal(err)
			}
			refused(t, path, path+suffix+" is a symbolic link")
		})
	}
	t.Run("a symbolic link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(made(t), link); err != nil {
			t.Fatal(err)
		}
		refused(t, link, "symbolic link")
	})
	t.Run("a symbolic link to nothing", func(t *testing.T) {
		target := filepath.Join(t.TempDir(), "target.db")
		link := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		refused(t, link, "symbolic link")
		if _, err := os.Lstat(target); !missing(err) {
			t.Errorf("the link's target was made: %v", err)
		}
	})
	t.Run("a directory", func(t *testing.T) { refused(t, t.TempDir(), "is not a regular file") })
	t.Run("a directory that is missing", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "none")
		refused(t, filepath.Join(dir, "store.db"), "the directory "+dir+" does not exist", "mkdir -p")
	})
	t.Run("a directory that is a file", func(t *testing.T) {
		refused(t, filepath.Join(made(t), "store.db"), "directory")
	})
	t.Run("another owner", func(t *testing.T) {
		if os.Geteuid() != 0 {
			if os.Getenv("PORTCULLIS_REQUIRE_ROOT") != "" {
				t.Fatal("PORTCULLIS_REQUIRE_ROOT is set, and this is not root")
			}
			t.Skip("only root can give a file away")
		}
		for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
			path := made(t)
			f, err := os.OpenFile(path+suffix, os.O_CREATE, 0o600)
			if err == nil {
				err = errors.Join(f.Close(), os.Chown(path+suffix, 12345, -1))
			}
			if err != nil {
				t.Fatal(err)
			}
			refused(t, path, path+suffix+" belongs to user 12345", "chown 0 "+path+suffix)
		}
	})
	t.Run("no database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		text := []byte(strings.Repeat("This is not the file that you are looking for.\n", 100))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, path, path+" is not a SQLite database")
		if got, err := os.ReadFile(path); err != nil || string(got) != string(text) {
			t.Errorf("the file was changed: %v", err)
		}
	})
	t.Run("no path", func(t *testing.T) { refused(t, "", "path: is empty") })
}

func TestPathIsTakenToTheLetter(t *testing.T) {
	for _, name := range []string{"a b?mode=memory#x%41.db", ":memory:", "?", "é.db", "file:x.db"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			s := openTest(t, name)
			putRole(t, s, "editor")
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if !strings.HasPrefix(e.Name(), name) {
					t.Errorf("a file %q came to be", e.Name())
				}
			}
			if len(entries) != 3 {
				t.Errorf("files %v, want the database, its -wal and its -shm", entries)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	s.onWriter(t, `PRAGMA max_page_count = 60`)
	before := ""
	var err error
	for i := 0; err == nil && i < 10_000; i++ {
		before = s.state(t)
		_, err = s.PutRole(ctx, store.Actor{Name: "cli"}, 1, fmt.Sprint("role", i), nil)
	}
	if err == nil || !strings.Contains(err.Error(), "no room to write") {
		t.Fatalf("error %v, want that there is no room", err)
	}
	if after := s.state(t); after != before {
		t.Errorf("the failed write left something: %s, was %s", after, before)
	}
	s.onWriter(t, `PRAGMA max_page_count = 100000`)
	putRole(t, s, "after")
}

func TestReadOnlyFile(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"))
	s.onWriter(t, `PRAGMA query_only = 1`)
	before := s.state(t)
	_, err := s.PutRole(context.Background(), store.Actor{Name: "cli"}, 1, "editor", nil)
	if err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("error %v, want that the file cannot be written", err)
	}
	if after := s.state(t); after != before {
		t.Errorf("the failed write left something: %s, was %s", after, before)
	}
}

// onWriter runs a statement on the writer's connection.
func (s *Store) onWriter(t *testing.T, query string) {
	t.Helper()
	c, err := s.writer.take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer s.writer.give(c)
	if err := c.each(context.Background(), query, nil, func(*sql.Rows) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// state is the revision and how many rows there are of what a write adds.
func (s *Store) state(t *testing.T) string {
	t.Helper()
	var revision, log, changes, roles, audit int64
	err := s.borrowing(context.Background(), "count", func(ctx context.Context, c *conn) error {
		return c.scan(ctx, `SELECT (SELECT number FROM revision), (SELECT count(*) FROM revision_log), (SELECT count(*) FROM change_log),
			(SELECT count(*) FROM roles), (SELECT count(*) FROM audit)`, nil, &revision, &log, &changes, &roles, &audit)
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("revision %d, log %d, changes %d, roles %d, audit %d", revision, log, changes, roles, audit)
}

func TestLockedByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	holder, s := openTest(t, path), openQuick(t, path)
	c, err := holder.writer.take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.begin(context.Background(), sqlBeginWrite); err != nil {
		t.Fatal(err)
	}
	put := func(ctx context.Context) error {
		_, err := s.PutRole(ctx, store.Actor{Name: "cli"}, 1, "editor", nil)
		return err
	}
	if err := put(context.Background()); err == nil || !strings.Contains(err.Error(), "is locked by another process") {
		t.Errorf("error %v, want that the file is locked", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), quickLock/4)
	defer cancel()
	if err := put(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline's", err)
	}
	if _, err := s.Roles(context.Background(), 1); err != nil {
		t.Errorf("a reader is held up by a writer: %v", err)
	}
	if s.busy.Load() == 0 {
		t.Error("the metric counts no busy attempt")
	}
	// Freed while a write waits for it.
	done := make(chan error)
	go func() { done <- put(context.Background()) }()
	c.rollback()
	holder.writer.give(c)
	if err := <-done; err != nil {
		t.Errorf("after the lock was given back: %v", err)
	}
}
