//go:build !unix

package extauthz

// narrowUmask does nothing: this system has no umask.
func narrowUmask() (restore func()) { return func() {} }

// connectionRefused cannot be told here, so a socket file is never removed.
func connectionRefused(error) bool { return false }
