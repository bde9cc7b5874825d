package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"portcullis/internal/testkit"
)

// edge is Portcullis's admin API behind a real nginx with the configuration that we
// ship.
type edge struct {
	*testkit.Gate
	t             *testing.T
	plain, secure string // nginx's addresses
	roots         *x509.CertPool
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	testkit.RequireNginx(t)
	binary, err := portcullis()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &edge{t: t, plain: freeAddress(t), secure: freeAddress(t)}
	e.Gate, err = testkit.StartGate(t.Context(), testkit.GateConfig{Binary: binary, Dir: dir, Env: []string{
		"AUTH_EXTAUTHZ_LISTEN=unix://" + filepath.Join(dir, "gate.sock"), "AUTH_METRICS_LISTEN=127.0.0.1:0", "AUTH_SERVER_PORT=0",
		"AUTH_SQLITE_PATH=" + filepath.Join(dir, "auth.sqlite3"), "AUTH_JWT_SECRET_KEY=" + jwtSecret, "AUTH_CLIENT_KEY=" + adminKey,
		"AUTH_TRUSTED_PROXIES=127.0.0.1", "AUTH_DRAIN_DELAY=0s", "GORACE=halt_on_error=1 atexit_sleep_ms=0",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("portcullis's log:\n%s", e.Log())
		}
		e.Kill()
	})

	ca := newAuthority(t)
	e.roots = x509.NewCertPool()
	e.roots.AddCert(ca.cert)
	certFile, keyFile := writePair(t, dir, "nginx", ca.issue(t, names{dns: []string{"auth.example.com"}}))
	text, err := os.ReadFile("../../deploy/nginx/portcullis.conf")
	if err != nil {
		t.Fatal(err)
	}
	conf := string(text)
	for shipped, here := range map[string]string{
		"listen 80;":            "listen " + e.plain + ";",
		"listen 443 ssl http2;": "listen " + e.secure + " ssl http2;",
		// nginx adds the header where Portcullis did not answer; so one sees who did.
		`"" "` + hsts + `"`:                   `"" "` + byNginx + `"`,
		"server 127.0.0.1:5000;":              "server " + e.Admin() + ";",
		"/etc/nginx/tls/auth.example.com.pem": certFile,
		"/etc/nginx/tls/auth.example.com.key": keyFile,
	} {
		if strings.Count(conf, shipped) != 1 {
			t.Fatalf("the configuration has no %q, or several", shipped)
		}
		conf = strings.Replace(conf, shipped, here, 1)
	}
	testkit.RunNginx(t, dir, conf, e.secure)
	return e
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := testkit.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// reply is what a client got.
type reply struct {
	status int
	header http.Header
	body   string
}

// from asks as a client whose address is local. target begins with http:// or
// https:// and goes over the wire as it stands.
func (e *edge) from(local, method, target, body string, headers map[string]string) reply {
	e.t.Helper()
	scheme, rest, _ := strings.Cut(target, "://")
	addr := map[string]string{"http": e.plain, "https": e.secure}[scheme]
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:     dialer.DialContext,
			TLSClientConfig: &tls.Config{RootCAs: e.roots, ServerName: "auth.example.com"},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(e.t.Context(), method, scheme+"://"+addr, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	r.URL.Opaque = rest // no cleaning on our side
	r.Host = "auth.example.com"
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	response, err := client.Do(r)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, target, err)
	}
	return reply{response.StatusCode, response.Header, string(text)}
}

// key is a valid credential, and what a forger adds to it.
func key(more ...string) map[string]string {
	h := map[string]string{"Authorization": "Bearer " + adminKey}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = more[i+1]
	}
	return h
}

// What Strict-Transport-Security says.
const (
	hsts    = "max-age=31536000; includeSubDomains"
	byNginx = "max-age=1; by=nginx"
)

// hardened holds a response to the guide's headers, each once.
func hardened(t *testing.T, what string, got reply, hsts string) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "X-XSS-Protection": "1; mode=block",
		"Content-Security-Policy": "default-src 'self'", "Strict-Transport-Security": hsts,
	} {
		if values := got.header.Values(name); strings.Join(values, " | ") != want {
			t.Errorf("%s: %d with %s: %q, want %q", what, got.status, name, values, want)
		}
	}
}

func TestNginxBeforeTheAdminAPI(t *testing.T) {
	e := newEdge(t)

	t.Run("http is sent to https", func(t *testing.T) {
		for _, method := range []string{"GET", "POST"} {
			got := e.from("127.0.0.20", method, "http:///api/role/x?wait=all", "", key("Host", "evil.example"))
			if got.status != 308 || got.header.Get("Location") != "https://auth.example.com/api/role/x?wait=all" {
				t.Errorf("%s: %d %q", method, got.status, got.header.Get("Location"))
			}
			hardened(t, method, got, "")
		}
	})

	t.Run("the headers arrive once, on errors too", func(t *testing.T) {
		for target, status := range map[string]int{"https:///ping": 200, "https:///health": 200, "https:///api/roles": 401, "https:///none": 404} {
			got := e.from("127.0.0.21", "GET", target, "", nil)
			if got.status != status {
				t.Errorf("%s: %d, want %d: %s", target, got.status, status, got.body)
			}
			hardened(t, target, got, hsts)
		}
		// Past nginx, on this machine, nobody spoke TLS.
		response, err := http.Get("http://" + e.Admin() + "/ping")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		hardened(t, "past nginx", reply{response.StatusCode, response.Header, ""}, "")
	})

	t.Run("the audit names the client", func(t *testing.T) {
		for i, forged := range [][]string{nil, {"X-Forwarded-For", "203.0.113.1"}, {"X-Forwarded-For", "127.0.0.1", "X-Forwarded-Proto", "http"}, {"X-Forwarded-For", "203.0.113.1, 127.0.0.1"}} {
			local := "127.0.0." + strconv.Itoa(30+i)
			got := e.from(local, "POST", "https:///api/role/role"+strconv.Itoa(i), "", key(forged...))
			if got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			hardened(t, "a write", got, hsts)
			var page struct {
				Data struct {
					Entries []struct {
						Address string `json:"ip_address"`
					}
				}
			}
			got = e.from(local, "GET", "https:///api/audit?limit=1", "", key())
			if err := json.Unmarshal([]byte(got.body), &page); err != nil || len(page.Data.Entries) != 1 {
				t.Fatalf("%v in %s", err, got.body)
			}
			if page.Data.Entries[0].Address != local {
				t.Errorf("%v from %s: the audit says %s", forged, local, page.Data.Entries[0].Address)
			}
		}
	})

	t.Run("paths go through as they came", func(t *testing.T) {
		for target, status := range map[string]int{
			"https:///api/../ping":               401, // a name under /api, not /ping
			"https:///api/role/%2e%2e%2fx":       401,
			"https:///api//roles":                401,
			"https:///api/permission/editor/a/b": 401,
		} {
			if got := e.from("127.0.0.22", "GET", target, "", nil); got.status != status {
				t.Errorf("%s: %d, want %d: %s", target, got.status, status, got.body)
			}
		}
	})

	t.Run("a client that asks too often is told to wait, others are not", func(t *testing.T) {
		limited := 0
		for range 60 {
			got := e.from("127.0.0.40", "GET", "https:///api/roles", "", key())
			if got.status != 429 {
				continue
			}
			limited++
			hardened(t, "429", got, byNginx)
			if !json.Valid([]byte(got.body)) || got.header.Get("Content-Type") != "application/json" || got.header.Get("Retry-After") != "1" {
				t.Errorf("429: %q %s", got.header, got.body)
			}
		}
		if limited == 0 {
			t.Error("sixty requests at once are not limited")
		}
		if got := e.from("127.0.0.40", "GET", "https:///health", "", nil); got.status != 200 {
			t.Errorf("/health of the same client: %d", got.status)
		}
		if got := e.from("127.0.0.41", "GET", "https:///api/roles", "", key("X-Forwarded-For", "127.0.0.40")); got.status != 200 {
			t.Errorf("another client: %d", got.status)
		}
	})

	t.Run("large bodies are refused", func(t *testing.T) {
		got := e.from("127.0.0.42", "POST", "https:///api/apikeys/validate", strings.Repeat("a", 1<<20+1), key())
		if got.status != 413 {
			t.Errorf("%d %s", got.status, got.body)
		}
		hardened(t, "413", got, byNginx)
		if got := e.from("127.0.0.42", "POST", "https:///api/apikeys/validate", `{"api_key": "`+strings.Repeat("a", 1<<20-100)+`"}`, key()); got.status != 400 {
			t.Errorf("a body of nearly 1 MiB: %d %s", got.status, got.body)
		}
	})

	t.Run("old TLS is refused", func(t *testing.T) {
		for version, served := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
			conn, err := tls.Dial("tcp", e.secure, &tls.Config{RootCAs: e.roots, ServerName: "auth.example.com", MinVersion: version, MaxVersion: version})
			if err == nil {
				conn.Close()
			}
			if (err == nil) != served {
				t.Errorf("%s: %v", tls.VersionName(version), err)
			}
		}
	})

	// Last: nothing answers after it.
	t.Run("a Portcullis that is away", func(t *testing.T) {
		e.Kill()
		got := e.from("127.0.0.43", "POST", "https:///api/role/x", "", key())
		if got.status != 503 || !json.Valid([]byte(got.body)) {
			t.Errorf("%d %s", got.status, got.body)
		}
		hardened(t, "503", got, byNginx)
	})
}
