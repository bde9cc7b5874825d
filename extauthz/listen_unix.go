//go:build unix

package extauthz

import (
	"errors"
	"syscall"
)

// narrowUmask makes files that are created until restore is called unreachable
// for others, so that a socket is never open to them, not even before its mode is
// set. The mask is the whole process's: it is only ever made narrower.
func narrowUmask() (restore func()) {
	former := syscall.Umask(0o077)
	syscall.Umask(former | 0o007)
	return func() { syscall.Umask(former) }
}

// connectionRefused reports whether nobody listens on a socket.
func connectionRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
