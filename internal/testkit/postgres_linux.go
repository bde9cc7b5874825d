package testkit

import (
	"os"
	"syscall"
)

// dieWithParent has the kernel shut the postmaster down when this process dies.
// The signal is SIGQUIT, Postgres's immediate shutdown: after a SIGKILL its
// shared memory segments would stay behind.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

const (
	memoryFolder = "/dev/shm"
	// memoryRoom is more than a few servers ever fill: their log is kept short. A
	// container has 64 MB there unless it is told otherwise.
	memoryRoom = 2 << 30

	stNoExec = 8 // of Statfs_t.Flags: programs do not run from there
)

// serverParent is the folder in which servers' folders are made.
func serverParent() string {
	var stat syscall.Statfs_t
	switch {
	case os.Getenv("TMPDIR") != "",
		syscall.Statfs(memoryFolder, &stat) != nil,
		int64(stat.Bavail)*int64(stat.Bsize) < memoryRoom,
		stat.Flags&stNoExec != 0:
		return os.TempDir()
	}
	return memoryFolder
}
