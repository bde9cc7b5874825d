package testkit

import (
	"os/exec"
	"runtime"
)

// StartBound starts cmd so that the kernel ends it when this process dies,
// however it dies; it sets cmd.SysProcAttr. The channel yields the result of
// cmd.Wait, once.
//
// On Linux the parent-death signal is sent when the thread that forked ends, so
// the thread is held until the child is gone.
func StartBound(cmd *exec.Cmd) (<-chan error, error) {
	bindToParent(cmd)
	started := make(chan error, 1)
	exited := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	return exited, <-started
}
