package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// profiles asks for the profile of goroutines, at addr and under a host's name.
func profiles(t *testing.T, addr, host string) (code int, body string) {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+addr+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestProfilesAreForDebugModeOnThisMachine: a heap holds secrets.
func TestProfilesAreForDebugModeOnThisMachine(t *testing.T) {
	p := newPlace(t)
	p.set("AUTH_METRICS_LISTEN", "127.0.0.1:0,unix://"+p.dir+"/metrics.sock")
	s := p.start("serve")
	if code, body := profiles(t, s.addr("metrics"), ""); code != 404 {
		t.Errorf("without debug mode: %d %.100s", code, body)
	}
	if code, _ := profiles(t, s.addr("admin"), ""); code != 404 {
		t.Errorf("at the admin API without debug mode: %d", code)
	}

	p = newPlace(t)
	p.set("AUTH_METRICS_LISTEN", "0.0.0.0:0,unix://"+p.dir+"/metrics.sock")
	p.set("AUTH_DEBUG_MODE", "true")
	s = p.start("serve")
	_, port, err := net.SplitHostPort(s.addr("metrics"))
	if err != nil {
		t.Fatal(err)
	}
	here := net.JoinHostPort("127.0.0.1", port)
	for _, host := range []string{"", "localhost", "localhost:" + port, "127.0.0.1:9190", "[::1]:9190"} {
		if code, body := profiles(t, here, host); code != 200 || !strings.Contains(body, "goroutine profile") {
			t.Errorf("on loopback as %q: %d %.100s", host, code, body)
		}
	}
	for _, host := range []string{"evil.example", "evil.example:" + port, "localhost.evil.example", "127.0.0.1.evil.example"} {
		if code, _ := profiles(t, here, host); code != 404 {
			t.Errorf("as %q, a name that a web page may have: %d", host, code)
		}
	}
	if code, _ := profiles(t, s.addr("admin"), ""); code != 404 {
		t.Errorf("at the admin API: %d", code)
	}
	if code, _ := s.get("/healthz"); code != 200 {
		t.Errorf("/healthz beside the profiles: %d", code)
	}
	for _, address := range otherAddresses(t) {
		if code, _ := profiles(t, net.JoinHostPort(address, port), "localhost"); code != 404 {
			t.Errorf("on %s, which other machines reach: %d", address, code)
		}
	}
}

// otherAddresses are those of this machine that are not loopback.
func otherAddresses(t *testing.T) (out []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			out = append(out, n.IP.String())
		}
	}
	return out
}
