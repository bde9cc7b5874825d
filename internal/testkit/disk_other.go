//go:build !linux

package testkit

import "testing"

// Disk skips the test: only on Linux there is a small file system to mount.
func Disk(tb testing.TB, bytes int) string {
	tb.Skip("only Linux has tmpfs")
	return ""
}

// LeaveOnDisk is not reached, since Disk skips.
func LeaveOnDisk(tb testing.TB, dir string, free int64) (ballast string) { return "" }
