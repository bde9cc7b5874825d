package testkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk mounts a file system of so many bytes, in a folder that only this user may
// enter, for as long as the test runs. It skips the test where the user may not
// mount: only root may.
func Disk(tb testing.TB, bytes int) string {
	tb.Helper()
	dir := tb.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		if errors.Is(err, syscall.EPERM) {
			tb.Skip("only root may mount a file system")
		}
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

// LeaveOnDisk writes a file that leaves so many free bytes on the disk of the
// folder, instead of the one that it wrote before, and returns its path.
func LeaveOnDisk(tb testing.TB, dir string, free int64) (ballast string) {
	tb.Helper()
	ballast = filepath.Join(dir, "ballast")
	if err := os.Remove(ballast); err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(ballast, make([]byte, max(0, int64(stat.Bavail)*stat.Bsize-free)), 0o600); err != nil {
		tb.Fatal(err)
	}
	return ballast
}
