package admin_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"portcullis/admin"
	"portcullis/internal/clientaddr"
)

// crowd is a server with room for few, whose requests at /hold last until let go.
type crowd struct {
	t        *testing.T
	addr     string
	registry *prometheus.Registry
	holding  chan struct{}
	letGo    chan struct{}
}

func newCrowd(t *testing.T, cfg admin.ServerConfig) *crowd {
	c := &crowd{t: t, registry: prometheus.NewRegistry(), holding: make(chan struct{}), letGo: make(chan struct{})}
	cfg.Registerer, cfg.Grace = c.registry, time.Second
	cfg.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			c.holding <- struct{}{}
			<-c.letGo
		}
		io.WriteString(w, "pong")
	})
	c.addr, _, _ = run(t, cfg)
	return c
}

// from connects from a local address, so that the server sees several peers.
func (c *crowd) from(local string) *caller {
	c.t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}).Dial("tcp", c.addr)
	must(c.t, err)
	c.t.Cleanup(func() { conn.Close() })
	must(c.t, conn.SetDeadline(time.Now().Add(patience)))
	return &caller{c.t, conn, bufio.NewReader(conn)}
}

func (c *crowd) standing(n int) {
	c.t.Helper()
	eventually(c.t, "the connections stand", func() bool {
		return testutil.CollectAndCount(c.registry, "portcullis_admin_connections") == 1 && c.metric("portcullis_admin_connections", "") == float64(n)
	})
}

func (c *crowd) metric(name, which string) float64 {
	c.t.Helper()
	families, err := c.registry.Gather()
	must(c.t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			switch {
			case f.GetName() != name:
			case which == "":
				return m.Gauge.GetValue()
			case m.Label[0].GetValue() == which:
				return m.Counter.GetValue()
			}
		}
	}
	c.t.Fatalf("no metric %s %s", name, which)
	return 0
}

type caller struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (c *caller) send(path string) {
	io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n") // a closed connection shows in reading
}

func (c *caller) answered() bool {
	c.t.Helper()
	response, err := http.ReadResponse(c.in, nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("neither answered nor closed")
	}
	if err != nil {
		return false
	}
	io.Copy(io.Discard, response.Body)
	return response.StatusCode == 200
}

func (c *caller) asks(path string) bool {
	c.t.Helper()
	c.send(path)
	return c.answered()
}

func TestTheLongestWithoutARequestMakesRoom(t *testing.T) {
	c := newCrowd(t, admin.ServerConfig{MaxConns: 3, MaxConnsPerPeer: 3})
	silent := c.from("127.0.0.1")
	io.WriteString(silent.conn, "GET /ping HTTP/1.1\r\nX-Slow: ")
	c.standing(1)
	idle := c.from("127.0.0.1")
	if !idle.asks("/ping") {
		t.Fatal("no answer with room for three")
	}
	busy := c.from("127.0.0.1")
	busy.send("/hold")
	<-c.holding
	c.standing(3)

	if !c.from("127.0.0.1").asks("/ping") {
		t.Error("the fourth is not answered")
	}
	if silent.answered() {
		t.Error("the silent one made no room")
	}
	if !idle.asks("/ping") {
		t.Error("the idle one was cut off while one had been silent for longer")
	}
	if !c.from("127.0.0.1").asks("/ping") { // in the place of the fourth, idle for longer than the other
		t.Error("the fifth is not answered")
	}
	if !idle.asks("/ping") {
		t.Error("an answer does not count as news of a connection")
	}
	if c.metric("portcullis_admin_connections_dropped_total", "silent") != 1 || c.metric("portcullis_admin_connections_dropped_total", "idle") != 1 {
		t.Error("the drops are not counted by kind")
	}
	close(c.letGo)
	if !busy.answered() {
		t.Error("a request in hand was cut off")
	}
}

func TestRequestsInHandAreNeverCutOffForNewOnes(t *testing.T) {
	c := newCrowd(t, admin.ServerConfig{MaxConns: 2, MaxConnsPerPeer: 2})
	var busy []*caller
	for range 2 {
		b := c.from("127.0.0.1")
		b.send("/hold")
		<-c.holding
		busy = append(busy, b)
	}
	if c.from("127.0.0.1").asks("/ping") {
		t.Error("a third connection is answered where two is the bound")
	}
	if c.metric("portcullis_admin_connections_dropped_total", "new") != 1 {
		t.Error("the refusal is not counted")
	}
	close(c.letGo)
	for _, b := range busy {
		if !b.answered() {
			t.Error("a request in hand was cut off")
		}
	}
	if !c.from("127.0.0.1").asks("/ping") {
		t.Error("no answer once there is room again")
	}
}

func TestOneAddressDoesNotTakeAllRoom(t *testing.T) {
	c := newCrowd(t, admin.ServerConfig{MaxConns: 10, MaxConnsPerPeer: 2})
	other := c.from("127.0.0.3")
	if !other.asks("/ping") {
		t.Fatal("no answer")
	}
	var greedy []*caller
	for range 6 {
		greedy = append(greedy, c.from("127.0.0.2"))
	}
	eventually(t, "four of them made room", func() bool { return c.metric("portcullis_admin_connections_dropped_total", "silent") == 4 })
	for i, g := range greedy {
		if got, want := g.asks("/ping"), i >= 4; got != want {
			t.Errorf("connection %d of one address: answered %t, want %t", i, got, want)
		}
	}
	if !other.asks("/ping") {
		t.Error("another address paid for it")
	}
}

// A trusted proxy brings the connections of many.
func TestProxiesAreBoundInAllOnly(t *testing.T) {
	proxies, err := clientaddr.ParseProxies("127.0.0.2")
	must(t, err)
	c := newCrowd(t, admin.ServerConfig{MaxConns: 5, MaxConnsPerPeer: 1, Proxies: proxies})
	var all []*caller
	for range 5 {
		all = append(all, c.from("127.0.0.2"))
	}
	for i, one := range all {
		if !one.asks("/ping") {
			t.Errorf("connection %d of a proxy is cut off", i)
		}
	}
}

func TestPlacesAreFreed(t *testing.T) {
	c := newCrowd(t, admin.ServerConfig{MaxConns: 4, MaxConnsPerPeer: 4})
	for range 50 {
		one := c.from("127.0.0.1")
		if !one.asks("/ping") {
			t.Fatal("no answer")
		}
		one.conn.Close()
	}
	c.standing(0)
}

func TestHeadersAreBounded(t *testing.T) {
	h := newHouse(t, options{})
	if got := h.ask("nobody", "GET", "/ping", "X-Large: "+strings.Repeat("a", 60<<10)); got.status != 200 {
		t.Errorf("60 KiB: %d", got.status)
	}
	if got := h.ask("nobody", "GET", "/ping", "X-Large: "+strings.Repeat("a", 70<<10)); got.status != 431 {
		t.Errorf("70 KiB: %d", got.status)
	}
}
