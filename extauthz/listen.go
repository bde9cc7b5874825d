package extauthz

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// endpoint is one address to listen on.
type endpoint struct {
	network string // "tcp" or "unix"
	address string // host:port, or an absolute path
}

// parseEndpoints reads AUTH_EXTAUTHZ_LISTEN: host:port or unix:///path, several
// joined with commas.
func parseEndpoints(list string) ([]endpoint, error) {
	var out []endpoint
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if path, ok := strings.CutPrefix(text, "unix://"); ok {
			if !filepath.IsAbs(path) {
				return nil, fmt.Errorf("listen address %q: write unix:// and an absolute path, as in unix:///run/portcullis.sock", text)
			}
			out = append(out, endpoint{"unix", path})
			continue
		}
		if _, port, err := net.SplitHostPort(text); err != nil || port == "" {
			return nil, fmt.Errorf("listen address %q: want host:port or unix:///path", text)
		}
		out = append(out, endpoint{"tcp", text})
	}
	return out, nil
}

// listen opens one endpoint. encrypted says that TCP connections will speak TLS.
func listen(e endpoint, encrypted, insecure bool) (net.Listener, error) {
	if e.network == "unix" {
		return listenUnix(e.address)
	}
	address, err := net.ResolveTCPAddr("tcp", e.address)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", e.address, err)
	}
	if !address.IP.IsLoopback() && !encrypted && !insecure {
		return nil, fmt.Errorf("listen address %q is reachable from other machines and has no TLS: "+
			"give it a certificate (AUTH_EXTAUTHZ_TLS_CERT, AUTH_EXTAUTHZ_TLS_KEY), listen on 127.0.0.1 or a unix socket, or set AUTH_EXTAUTHZ_INSECURE=true", e.address)
	}
	// The resolved address is the one that was judged.
	l, err := net.ListenTCP("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", e.address, err)
	}
	return l, nil
}

// socketMode lets the owner and the group connect: Envoy runs as another user of
// the same group.
const socketMode = 0o660

// listenUnix opens a unix socket, in the place of one that nobody answers on.
func listenUnix(path string) (net.Listener, error) {
	if err := clearStale(path); err != nil {
		return nil, fmt.Errorf("listen on unix://%s: %w", path, err)
	}
	restore := narrowUmask()
	l, err := net.Listen("unix", path)
	restore()
	if err != nil {
		return nil, fmt.Errorf("listen on unix://%s: %w", path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on unix://%s: %w", path, err), l.Close())
	}
	return l, nil
}

// clearStale removes a socket file that a former process left behind. Anything
// else at the path is an error: a file that is no socket, or a socket on which
// somebody answers.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is no socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(errors.New("another process answers there"), conn.Close())
	}
	if !connectionRefused(err) {
		return fmt.Errorf("cannot tell whether the socket is in use: %w", err)
	}
	return os.Remove(path)
}
