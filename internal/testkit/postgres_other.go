//go:build !linux

package testkit

import "syscall"

// dieWithParent does nothing: only Linux has a parent-death signal. The reaper
// ends the server.
func dieWithParent(*syscall.SysProcAttr) {}
