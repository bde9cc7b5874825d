package testkit

import "syscall"

// dieWithParent has the kernel shut the postmaster down when this process dies.
// The signal is SIGQUIT, Postgres's immediate shutdown: after a SIGKILL its
// shared memory segments would stay behind.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
