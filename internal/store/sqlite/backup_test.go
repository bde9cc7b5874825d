package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"portcullis/internal/store"
)

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// writers write to the file through two stores, as two processes would, until stop
// is called. done returns the revisions acknowledged so far.
func writers(t *testing.T, path string) (done func() map[int64]string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	acknowledged := make(map[int64]string)
	var wg sync.WaitGroup
	for n, s := range []*Store{openTest(t, path), openTest(t, path)} {
		for m := range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := 0; ctx.Err() == nil; i++ {
					name := fmt.Sprintf("role-%d-%d-%d", n, m, i)
					r, err := s.PutRole(ctx, store.Actor{Name: "writer"}, 1, name, nil)
					if err == nil && i%3 == 0 {
						mu.Lock()
						acknowledged[r.Revision.Number] = r.Revision.Tag.String()
						mu.Unlock()
						r, err = s.DeleteRole(ctx, store.Actor{Name: "writer"}, 1, name)
					}
					if err != nil {
						if ctx.Err() == nil {
							t.Errorf("write: %v", err)
						}
						return
					}
					mu.Lock()
					acknowledged[r.Revision.Number] = r.Revision.Tag.String()
					mu.Unlock()
				}
			}()
		}
	}
	done = func() map[int64]string {
		mu.Lock()
		defer mu.Unlock()
		copied := make(map[int64]string, len(acknowledged))
		for number, tag := range acknowledged {
			copied[number] = tag
		}
		return copied
	}
	return done, func() { cancel(); wg.Wait() }
}

func TestBackupWhileOthersWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	if err := openTest(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	done, stop := writers(t, path)
	defer stop()
	for i := range 5 {
		var before map[int64]string
		for len(before) < 30*(i+1) {
			before = done()
		}
		during := 0
		to := filepath.Join(dir, fmt.Sprintf("copy%d.db", i))
		made, err := Backup(t.Context(), BackupConfig{Path: path, To: to, step: 1, Progress: func(stage string, at, all int) {
			if at > all || stage == "copying" && all == 0 {
				t.Errorf("progress %d of %d", at, all)
			}
			if stage == "copying" && at%10 == 0 { // a write is between these steps and the next
				seen := len(done())
				for len(done()) == seen {
				}
				during++
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if during == 0 {
			t.Error("nothing was written while the copy was made")
		}
		info, err := os.Lstat(to)
		if err != nil || info.Mode() != 0o600 || info.Size() != made.Bytes || made.To != to || made.Schema != newestSchema {
			t.Errorf("%v, mode %v, error %v: %+v", to, info.Mode(), err, made)
		}
		checkWhole(t, to, before)
		s := openTest(t, to)
		d, err := s.Delta(t.Context(), made.Revision, nil)
		if err != nil || d.Head != made.Revision {
			t.Errorf("the copy is at %v, error %v; the answer was %v", d.Head, err, made.Revision)
		}
		s.Close()
	}
	stop()
	checkWhole(t, path, done())
	for _, name := range namesIn(t, dir) {
		if strings.Contains(name, partialInfix) {
			t.Errorf("left behind: %s", name)
		}
	}
}

func TestBackupTakesNoNameOfAnother(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	putRole(t, openTest(t, path), "editor") // stays open: -wal and -shm are there
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Link(path, in("hard")); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": path, "dangling": in("nothing"), "linkdir": dir} {
		if err := os.Symlink(to, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"there": "mine", "open": "mine", "open-wal": "", "gone-journal": ""} {
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(in("dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := namesIn(t, dir)
	state := func() string { s := openTest(t, path); defer s.Close(); return s.state(t) }
	stateBefore := state()
	for _, c := range []struct {
		to, want  string
		overwrite bool
		is        error
	}{
		{to: path, overwrite: true, want: "is the store itself", is: ErrBackupTarget},
		{to: path + "-wal", overwrite: true, want: "one of its files", is: ErrBackupTarget},
		{to: path + "-shm", overwrite: true, want: "one of its files", is: ErrBackupTarget},
		{to: path + "-journal", want: "one of its files", is: ErrBackupTarget},
		{to: in("linkdir/store.db"), overwrite: true, want: "is the store itself", is: ErrBackupTarget},
		{to: in("dir/../store.db"), overwrite: true, want: "is the store itself", is: ErrBackupTarget},
		{to: in("hard"), overwrite: true, want: "is the store itself", is: ErrBackupTarget},
		{to: in("link"), overwrite: true, want: "is the store itself", is: ErrBackupTarget},
		{to: in("dangling"), overwrite: true, want: "is a symbolic link", is: ErrBackupTarget},
		{to: in("dir"), overwrite: true, want: "is not a regular file", is: ErrBackupTarget},
		{to: in("open"), overwrite: true, want: "open-wal is there", is: ErrBackupTarget},
		{to: in("gone"), want: "gone-journal is there", is: ErrBackupTarget},
		{to: in("there"), want: in("there"), is: ErrBackupExists},
		{to: "", want: "is empty", is: ErrBackupTarget},
		{to: in("none/copy.db"), want: "does not exist: create it with `mkdir -p -m 700 " + in("none")},
	} {
		_, err := Backup(t.Context(), BackupConfig{Path: path, To: c.to, Overwrite: c.overwrite})
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("to %q: error %v, want %q", c.to, err, c.want)
		}
	}
	if after := namesIn(t, dir); !slices.Equal(after, before) {
		t.Errorf("files %v, were %v", after, before)
	}
	if text, err := os.ReadFile(in("there")); err != nil || string(text) != "mine" {
		t.Errorf("the file that was there holds %q, error %v", text, err)
	}
	if after := state(); after != stateBefore {
		t.Errorf("the store is at %s, was at %s", after, stateBefore)
	}
	if _, err := Backup(t.Context(), BackupConfig{Path: path, To: in("there"), Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, in("there"), nil)
}

func TestBackupDoesNotReplaceWhatCameMeanwhile(t *testing.T) {
	dir := t.TempDir()
	path, to := filepath.Join(dir, "store.db"), filepath.Join(dir, "copy.db")
	putRole(t, openTest(t, path), "editor")
	_, err := Backup(t.Context(), BackupConfig{Path: path, To: to, Progress: func(string, int, int) {
		if err := os.WriteFile(to, []byte("mine"), 0o600); err != nil {
			t.Error(err)
		}
	}})
	if !errors.Is(err, ErrBackupExists) {
		t.Errorf("error %v, want ErrBackupExists", err)
	}
	if text, err := os.ReadFile(to); err != nil || string(text) != "mine" {
		t.Errorf("the file holds %d bytes, error %v", len(text), err)
	}
}

func TestBackupIsPrivateUnderAnyUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		dir := t.TempDir()
		path := filepath.Join(dir, "store.db")
		func() {
			defer syscall.Umask(syscall.Umask(umask))
			putRole(t, openTest(t, path), "editor")
			widest := os.FileMode(0)
			_, err := Backup(t.Context(), BackupConfig{Path: path, To: filepath.Join(dir, "copy"), step: 1, Progress: func(string, int, int) {
				for _, name := range namesIn(t, dir) {
					if info, err := os.Lstat(filepath.Join(dir, name)); err == nil {
						widest |= info.Mode()
					}
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(filepath.Join(dir, "copy")); err != nil || info.Mode() != 0o600 || widest != 0o600 {
				t.Errorf("umask %04o: mode %v, on the way %v, error %v", umask, info.Mode(), widest, err)
			}
		}()
	}
}

func TestBackupOfWhatIsNoStore(t *testing.T) {
	made := func(t *testing.T, sql ...string) string {
		path := filepath.Join(t.TempDir(), "store.db")
		s := openTest(t, path)
		putRole(t, s, "editor")
		for _, q := range sql {
			s.onWriter(t, q)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fails := func(t *testing.T, path, want string) {
		t.Helper()
		to := filepath.Join(t.TempDir(), "copy.db")
		_, err := Backup(t.Context(), BackupConfig{Path: path, To: to})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if names := namesIn(t, filepath.Dir(to)); len(names) > 0 {
			t.Errorf("left behind: %v", names)
		}
	}
	t.Run("missing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "store.db")
		fails(t, path, "does not exist: there is nothing to copy")
		if names := namesIn(t, filepath.Dir(path)); len(names) > 0 {
			t.Errorf("files came to be: %v", names)
		}
	})
	t.Run("a link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "store.db")
		if err := os.Symlink(made(t), link); err != nil {
			t.Fatal(err)
		}
		fails(t, link, "symbolic link")
	})
	t.Run("a wide mode", func(t *testing.T) {
		path := made(t)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		fails(t, path, "chmod 600")
	})
	t.Run("another program's", func(t *testing.T) {
		fails(t, made(t, `CREATE TABLE recipes (name TEXT)`), "another program's tables (recipes)")
	})
	t.Run("rows that point nowhere", func(t *testing.T) {
		fails(t, made(t, `PRAGMA foreign_keys = 0`, `DELETE FROM tenants`), "point to rows that are not there")
	})
	t.Run("damaged", func(t *testing.T) {
		path := made(t)
		s := openTest(t, path)
		var page int64
		if err := s.reader.db.QueryRow(`SELECT rootpage FROM sqlite_schema WHERE name = 'audit'`).Scan(&page); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, (page-1)*4096); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		fails(t, path, "the copy is not good: ")
	})
}

// TestBackupMigratesNothing: a newer program must be able to copy the store before
// it migrates it, and an older one what a newer one has migrated.
func TestBackupMigratesNothing(t *testing.T) {
	for schema, sql := range map[int64]string{
		newestSchema - 1: fmt.Sprintf(`DELETE FROM goose_db_version WHERE version_id = %d`, newestSchema),
		newestSchema + 1: fmt.Sprintf(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, 1)`, newestSchema+1),
	} {
		path := filepath.Join(t.TempDir(), "store.db")
		s := openTest(t, path)
		s.onWriter(t, sql)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "copy.db")
		made, err := Backup(t.Context(), BackupConfig{Path: path, To: to})
		if err != nil || made.Schema != schema {
			t.Errorf("schema %d, error %v; want %d", made.Schema, err, schema)
		}
		for _, file := range []string{path, to} {
			if after, err := os.ReadFile(file); err != nil || len(after) != len(before) {
				t.Errorf("%s: %d bytes, error %v; the store had %d", file, len(after), err, len(before))
			}
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("the store was changed, error %v", err)
		}
	}
}

func TestBackupThatIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	putRole(t, openTest(t, path), "editor")
	to := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Backup(ctx, BackupConfig{Path: path, To: filepath.Join(to, "copy.db"), step: 1, Progress: func(string, int, int) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	if names := namesIn(t, to); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestARestoredBackupIsANewHistory: whoever was ahead of the backup is told that
// its revision is unknown, also once the number has come again; whoever was not, is
// told what came after.
func TestARestoredBackupIsANewHistory(t *testing.T) {
	dir := t.TempDir()
	path, to := filepath.Join(dir, "store.db"), filepath.Join(dir, "copy.db")
	lost := openTest(t, path)
	putRole(t, lost, "before")
	made, err := Backup(t.Context(), BackupConfig{Path: path, To: to})
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := lost.PutRole(t.Context(), store.Actor{Name: "cli"}, 1, "after", nil)
	if err != nil {
		t.Fatal(err)
	}
	restored := openTest(t, to)
	for range 2 {
		if _, err := restored.Delta(t.Context(), ahead.Revision, nil); !errors.Is(err, store.ErrRevisionUnknown) {
			t.Errorf("to a sidecar that was ahead: %v, want ErrRevisionUnknown", err)
		}
		d, err := restored.Delta(t.Context(), made.Revision, nil)
		if err != nil || d.Head.Number < made.Revision.Number {
			t.Errorf("to a sidecar that was not ahead: %+v, %v", d, err)
		}
		putRole(t, restored, "another") // its number is that of the lost write
	}
}

// helperBackup makes a copy, and stops in the middle of it until it is killed.
func helperBackup(path string) {
	_, err := Backup(context.Background(), BackupConfig{Path: path, To: path + ".copy", Overwrite: true, step: 1, Progress: func(_ string, done, _ int) {
		if done == 3 {
			fmt.Println("in the middle")
			select {}
		}
	}})
	fmt.Println(err)
}

func TestBackupKilled(t *testing.T) {
	for _, there := range []bool{false, true} {
		dir := t.TempDir()
		path := filepath.Join(dir, "store.db")
		s := openTest(t, path)
		putRole(t, s, "editor")
		to := path + ".copy"
		if there {
			if _, err := Backup(t.Context(), BackupConfig{Path: path, To: to}); err != nil {
				t.Fatal(err)
			}
		}
		cmd := helper(t, "backup", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "in the middle\n" {
			t.Fatalf("%q, %v", line, err)
		}
		partials := func() (n int) {
			for _, name := range namesIn(t, dir) {
				if strings.Contains(name, partialInfix) {
					n++
				}
			}
			return n
		}
		// Another copy to the same name leaves the one that is being made alone.
		if _, err := Backup(t.Context(), BackupConfig{Path: path, To: to, Overwrite: true}); err != nil || partials() != 1 {
			t.Errorf("error %v, %d unfinished copies, want the other process's", err, partials())
		}
		whole, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if !there {
			if err := os.Remove(to); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, as it should be
		if after, err := os.ReadFile(to); there && (err != nil || string(after) != string(whole)) || !there && !missing(err) {
			t.Errorf("after the kill: %d bytes, error %v; was there: %v", len(after), err, there)
		}
		putRole(t, s, "after") // the killed process holds up no write
		if _, err := Backup(t.Context(), BackupConfig{Path: path, To: to, Overwrite: true}); err != nil {
			t.Fatal(err)
		}
		if n := partials(); n != 0 {
			t.Errorf("%d unfinished copies are left", n)
		}
		checkWhole(t, to, nil)
	}
}
