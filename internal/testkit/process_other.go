//go:build !linux

package testkit

import "os/exec"

// bindToParent does nothing: only Linux has a parent-death signal. Elsewhere a
// child outlives a test process that is killed.
func bindToParent(*exec.Cmd) {}
