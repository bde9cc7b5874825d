//go:build !linux

package testkit

import (
	"os"
	"syscall"
)

// dieWithParent does nothing: only Linux has a parent-death signal. The reaper
// ends the server.
func dieWithParent(*syscall.SysProcAttr) {}

// serverParent is the folder in which servers' folders are made.
func serverParent() string { return os.TempDir() }
