package extauthz

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnixSocket(t *testing.T) {
	g := newGate(t, nil)
	path := filepath.Join(t.TempDir(), "gate.sock")
	s := g.serve(ServerConfig{Listen: "unix://" + path + ", 127.0.0.1:0"})
	info, err := os.Stat(path)
	g.must(err)
	if info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v", info.Mode())
	}
	for _, target := range []string{"unix://" + path, s.Addrs()[1].String()} {
		if got := g.checkOver(dial(t, target), request{path: "/healthz"}); got != "ok" {
			t.Errorf("%s: %s", target, got)
		}
	}
	// The socket of a process that answers is not taken from it.
	if _, err := NewServer(ServerConfig{Core: g.core, Listen: "unix://" + path}); err == nil || !strings.Contains(err.Error(), "another process answers there") {
		t.Errorf("got %v", err)
	}
	s.stop()
	g.must(s.wait(g))

	// One that a killed process left behind is replaced.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	g.must(err)
	l.SetUnlinkOnClose(false)
	g.must(l.Close())
	again := g.serve(ServerConfig{Listen: "unix://" + path})
	if got := g.checkOver(dial(t, "unix://"+again.Addrs()[0].String()), request{path: "/healthz"}); got != "ok" {
		t.Error(got)
	}

	// A file is never removed.
	file := filepath.Join(t.TempDir(), "notes")
	g.must(os.WriteFile(file, []byte("x"), 0o600))
	if _, err := NewServer(ServerConfig{Core: g.core, Listen: "unix://" + file}); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "x" {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestListenersThatAreRefused(t *testing.T) {
	g := newGate(t, nil)
	refused := func(cfg ServerConfig, want string) {
		t.Helper()
		cfg.Core = g.core
		s, err := NewServer(cfg)
		if err == nil {
			s.Close()
			t.Errorf("%+v was taken", cfg)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	refused(ServerConfig{Listen: "0.0.0.0:0"}, "AUTH_EXTAUTHZ_INSECURE")
	refused(ServerConfig{Listen: ":0"}, "AUTH_EXTAUTHZ_INSECURE")
	refused(ServerConfig{Listen: "127.0.0.1:0,[::]:0"}, "AUTH_EXTAUTHZ_INSECURE")
	refused(ServerConfig{Listen: "127.0.0.1"}, "host:port")
	refused(ServerConfig{Listen: ""}, "host:port")
	refused(ServerConfig{Listen: "unix://relative"}, "absolute")
	refused(ServerConfig{Listen: "127.0.0.1:0", TLS: TLS{CertFile: "x"}}, "AUTH_EXTAUTHZ_TLS_KEY")
	refused(ServerConfig{Listen: "127.0.0.1:0", TLS: TLS{ClientCAFile: "x"}}, "AUTH_EXTAUTHZ_TLS_CERT")
	refused(ServerConfig{Listen: "127.0.0.1:0", TLS: TLS{CertFile: "/no/such", KeyFile: "/no/such"}}, "certificate")
	s, err := NewServer(ServerConfig{Core: g.core, Listen: "0.0.0.0:0", Insecure: true})
	g.must(err)
	g.must(s.Close())
}
