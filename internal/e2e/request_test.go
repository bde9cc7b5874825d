package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"portcullis/internal/testkit"
)

const blog = "blog.example.com"

// request is one HTTP/1.1 request as it goes over the wire: net/http would mend
// or refuse many of these.
type request struct {
	line    string   // "GET /path", without the version
	host    string   // default: blog
	headers []string // "name: value"
	body    string
	tls     *tls.Config // nil: plain HTTP
}

func (r request) method() string { return strings.SplitN(r.line, " ", 2)[0] }

func (r request) path() string { return strings.SplitN(r.line, " ", 2)[1] }

func (r request) bytes() string {
	host := r.host
	if host == "" {
		host = blog
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: %s\r\n", r.line, host)
	for _, h := range r.headers {
		b.WriteString(h + "\r\n")
	}
	if r.body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	b.WriteString("Connection: close\r\n\r\n" + r.body)
	return b.String()
}

func bearer(token string) string { return "Authorization: Bearer " + token }

func clientKey(key string) string { return "X-Client-Key: " + key }

// response is what came back.
type response struct {
	status int
	header http.Header
	body   string
}

// send sends a request to a listener of Envoy, on a connection of its own.
func (w *world) send(t *testing.T, listener string, r request) response {
	t.Helper()
	resp, err := w.trySend(listener, r)
	if err != nil {
		t.Fatalf("%s: %v", r.line, err)
	}
	return resp
}

func (w *world) trySend(listener string, r request) (response, error) {
	conn, err := net.DialTimeout("tcp", w.envoy.Addr(listener), 10*time.Second)
	if err != nil {
		return response{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return response{}, err
	}
	if r.tls != nil {
		secure := tls.Client(conn, r.tls)
		if err := secure.Handshake(); err != nil {
			return response{}, err
		}
		conn = secure
	}
	// Envoy may answer and close before it has read all of a request that it refuses.
	go func() { _, _ = io.WriteString(conn, r.bytes()) }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.method()})
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && r.method() == http.MethodConnect {
		return response{status: resp.StatusCode, header: resp.Header}, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, err
	}
	return response{resp.StatusCode, resp.Header, string(body)}, nil
}

// receiveEcho reads the first message of an upstream's WebSocket.
func receiveEcho(t *testing.T, ws *testkit.WebSocket) testkit.Echo {
	t.Helper()
	message, err := ws.Receive()
	if err != nil {
		t.Fatal(err)
	}
	var echo testkit.Echo
	if err := json.Unmarshal([]byte(message), &echo); err != nil {
		t.Fatalf("the upstream's first message %.300q: %v", message, err)
	}
	return echo
}
