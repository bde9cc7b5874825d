package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/internal/testkit"
)

// fill leaves so many free bytes on the disk of dir.
func fill(t *testing.T, dir string, free int64) { t.Helper(); testkit.LeaveOnDisk(t, dir, free) }

func empty(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil && !missing(err) {
		t.Fatal(err)
	}
}

// TestDiskThatIsFull lets the disk run full in the middle of writes, a page further
// on each time: what fails leaves nothing, reads go on, and so do writes once there
// is room.
func TestDiskThatIsFull(t *testing.T) {
	dir := testkit.Disk(t, 8<<20)
	path := filepath.Join(dir, "store.db")
	s := openTest(t, path)
	acknowledged := make(map[int64]string)
	put := func(name string) error {
		r, err := s.PutRole(context.Background(), store.Actor{Name: "cli"}, 1, name, nil)
		if err == nil {
			acknowledged[r.Revision.Number] = r.Revision.Tag.String()
		}
		return err
	}
	failed := 0
	for pages := range int64(40) {
		fill(t, dir, pages*4096)
		before, err := "", error(nil)
		for i := 0; err == nil; i++ {
			before = s.state(t)
			err = put(fmt.Sprintf("role-%d-%d", pages, i))
		}
		for _, want := range []string{"no room to write " + path, "free space on its disk", "nothing of this write was kept"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%d pages free: error %q does not say %q", pages, err, want)
			}
		}
		failed++
		if after := s.state(t); after != before {
			t.Errorf("%d pages free: the failed write left something: %s, was %s", pages, after, before)
		}
		if _, err := s.Roles(context.Background(), 1); err != nil {
			t.Errorf("%d pages free: a read fails: %v", pages, err)
		}
		empty(t, dir)
		if err := put(fmt.Sprintf("after-%d", pages)); err != nil {
			t.Fatalf("%d pages: there is room again, and a write fails: %v", pages, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, path, acknowledged)
	t.Logf("%d failed writes, %d acknowledged", failed, len(acknowledged))
}

// TestOpenOnADiskThatIsFull: a start that finds no room says so, and the next one
// finds a store that is whole.
func TestOpenOnADiskThatIsFull(t *testing.T) {
	for _, there := range []bool{false, true} {
		dir := testkit.Disk(t, 4<<20)
		path := filepath.Join(dir, "store.db")
		if there {
			s := openTest(t, path)
			putRole(t, s, "editor")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for pages := range int64(30) {
			fill(t, dir, pages*4096)
			s, err := Open(t.Context(), Config{Path: path})
			if err == nil {
				s.Close()
			} else if !strings.Contains(err.Error(), "no room to write "+path) {
				t.Errorf("%d pages free, a store is there %v: error %v", pages, there, err)
			}
			if pages == 0 && err == nil {
				t.Errorf("a store is there %v: it opened on a full disk", there)
			}
			empty(t, dir)
		}
		s := openTest(t, path)
		putRole(t, s, "viewer")
		s.Close()
		checkWhole(t, path, nil)
	}
}

// TestScrubOnADiskThatIsFull: what the rotation replaced is taken out of the file
// once there is room for it. Until then it is under way, and everything else goes on.
func TestScrubOnADiskThatIsFull(t *testing.T) {
	dir := testkit.Disk(t, 8<<20)
	path := filepath.Join(dir, "store.db")
	s := openWith(t, Config{Path: path, Masters: mastersOf(t, sealing.NewMaster())})
	furnish(t, s, 60)
	ctx := t.Context()
	r, err := s.BeginRotation(ctx, cli, store.RotateEnable)
	done(t, r, err)
	rotateTenants(t, s, nil)
	look := membersOf(t, s)
	for _, pages := range []int64{0, 1, 3, 10, 20, 40} {
		if err := s.cutWAL(ctx); err != nil { // so that it has to grow again
			t.Fatal(err)
		}
		fill(t, dir, pages*4096)
		_, err := s.FinishRotation(ctx, cli)
		if err == nil || !strings.Contains(err.Error(), "no room to write "+path) || !strings.Contains(err.Error(), "take out of the file") {
			t.Fatalf("%d pages free: %v", pages, err)
		}
		if got := membersOf(t, s); got != look {
			t.Errorf("%d pages free: the memberships read otherwise", pages)
		}
		if state, err := s.Encryption(ctx); err != nil || state.Rotation != store.RotateEnable {
			t.Errorf("%d pages free: %+v, %v; want the rotation under way", pages, state, err)
		}
		empty(t, dir)
		r, err := s.PutRole(ctx, cli, 1, fmt.Sprint("after-", pages), nil)
		done(t, r, err)
		look = membersOf(t, s)
	}
	r, err = s.FinishRotation(ctx, cli)
	done(t, r, err)
	if in := inFiles(t, path, []byte(secretPrefix)); len(in) > 0 {
		t.Errorf("names are in %v", in)
	}
}

func TestBackupToADiskThatIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path)
	putRole(t, s, "editor")
	dir := testkit.Disk(t, 1<<20)
	for pages := range int64(40) {
		fill(t, dir, pages*4096)
		to := filepath.Join(dir, "copy.db")
		_, err := Backup(t.Context(), BackupConfig{Path: path, To: to, step: 1})
		if err == nil {
			if pages < 10 {
				t.Errorf("a copy was made in %d pages", pages)
			}
			empty(t, dir)
			checkWhole(t, to, nil)
			break
		}
		if !strings.Contains(err.Error(), "no room to write "+to) {
			t.Errorf("%d pages free: error %v", pages, err)
		}
		if names := namesIn(t, dir); len(names) != 1 { // the ballast
			t.Errorf("%d pages free: left behind: %v", pages, names)
		}
		putRole(t, s, fmt.Sprint("role", pages)) // the store goes on
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	for _, there := range []bool{false, true} {
		dir := testkit.Disk(t, 4<<20)
		path := filepath.Join(dir, "store.db")
		if there {
			if err := openTest(t, path).Close(); err != nil {
				t.Fatal(err)
			}
		}
		remount := func(flags uintptr) {
			t.Helper()
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
				t.Fatal(err)
			}
		}
		remount(syscall.MS_RDONLY)
		refused(t, path, path, "writable for this user", "mounted read-write")
		_, err := Backup(t.Context(), BackupConfig{Path: testStore(t), To: filepath.Join(dir, "copy.db")})
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "copy.db")) || !strings.Contains(err.Error(), "mounted read-write") {
			t.Errorf("a backup there: %v", err)
		}
		remount(0)
		putRole(t, openTest(t, path), "editor")
	}
}

// testStore makes a closed store and returns its path.
func testStore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	if err := openTest(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	return path
}
