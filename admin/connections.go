package admin

import (
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/internal/clientaddr"
)

// How many connections may stand at once, in all and from one address (an IPv6
// network of 64 bits counts as one). Trusted proxies bring many callers, so only
// the first bound holds for them.
const (
	defaultMaxConns        = 1024
	defaultMaxConnsPerPeer = 256
)

// connections bounds the connections of one listener. Where there is no room, that
// connection makes some which has gone the longest without a request in hand: since
// it was opened, or since its last answer. So those that are opened to be held make
// way, a new one has the time of all others to bring its request, and one that is
// being answered is never cut off. Where all are, a new one is refused.
type connections struct {
	max, maxPerPeer int
	proxies         clientaddr.Proxies

	mu      sync.Mutex
	open    list.List // of *trackedConn, the longest without a request in hand first
	perPeer map[netip.Prefix]int

	standing prometheus.Gauge
	dropped  *prometheus.CounterVec
}

func newConnections(cfg ServerConfig) (*connections, error) {
	c := &connections{
		max: cfg.MaxConns, maxPerPeer: cfg.MaxConnsPerPeer, proxies: cfg.Proxies, perPeer: map[netip.Prefix]int{},
		standing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portcullis_admin_connections",
			Help: "Connections that stand at the admin API.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portcullis_admin_connections_dropped_total",
			Help: "Connections to the admin API that were closed for want of room, by which: silent (never brought a request), idle (between requests), new (refused).",
		}, []string{"which"}),
	}
	for _, which := range []string{"silent", "idle", "new"} {
		c.dropped.WithLabelValues(which)
	}
	if cfg.Registerer == nil {
		return c, nil
	}
	for _, m := range []prometheus.Collector{c.standing, c.dropped} {
		if err := cfg.Registerer.Register(m); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return c, nil
}

// boundListener gives out connections that there is room for.
type boundListener struct {
	net.Listener
	all *connections
}

func (l boundListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if tracked := l.all.admit(conn); tracked != nil {
			return tracked, nil
		}
		conn.Close()
	}
}

// trackedConn is a connection that counts. Its fields below all are guarded by
// all.mu.
type trackedConn struct {
	net.Conn
	all     *connections
	peer    netip.Prefix // not valid for a trusted proxy
	place   *list.Element
	serving int  // requests in hand; HTTP/2 may have several
	served  bool // it has brought a request
	gone    bool
}

// admit makes room and takes the connection in, or returns nil.
func (c *connections) admit(conn net.Conn) *trackedConn {
	t := &trackedConn{Conn: conn, all: c, peer: c.peerOf(conn)}
	var victim *trackedConn
	c.mu.Lock()
	full := c.open.Len() >= c.max
	crowded := t.peer.IsValid() && c.perPeer[t.peer] >= c.maxPerPeer
	if full || crowded {
		within := netip.Prefix{}
		if crowded {
			within = t.peer // others must not pay for one address
		}
		if victim = c.victim(within); victim == nil {
			c.mu.Unlock()
			c.dropped.WithLabelValues("new").Inc()
			return nil
		}
		c.forget(victim)
	}
	t.place = c.open.PushBack(t)
	if t.peer.IsValid() {
		c.perPeer[t.peer]++
	}
	c.standing.Inc()
	c.mu.Unlock()

	if victim != nil {
		which := "silent"
		if victim.served {
			which = "idle"
		}
		c.dropped.WithLabelValues(which).Inc()
		victim.Conn.Close()
	}
	return t
}

// victim finds the connection to close, of that peer where one is given.
func (c *connections) victim(within netip.Prefix) *trackedConn {
	for e := c.open.Front(); e != nil; e = e.Next() {
		t := e.Value.(*trackedConn)
		if t.serving == 0 && (!within.IsValid() || t.peer == within) {
			return t
		}
	}
	return nil
}

// forget takes a connection out of the count, once. c.mu is held.
func (c *connections) forget(t *trackedConn) {
	if t.gone {
		return
	}
	t.gone = true
	c.open.Remove(t.place)
	c.standing.Dec()
	if !t.peer.IsValid() {
		return
	}
	if c.perPeer[t.peer]--; c.perPeer[t.peer] == 0 {
		delete(c.perPeer, t.peer)
	}
}

func (c *connections) peerOf(conn net.Conn) netip.Prefix {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Prefix{}
	}
	if c.proxies.Trusts(from.Addr()) {
		return netip.Prefix{}
	}
	return clientaddr.Network(from.Addr())
}

// Close closes the connection and frees its place.
func (t *trackedConn) Close() error {
	t.all.mu.Lock()
	t.all.forget(t)
	t.all.mu.Unlock()
	return t.Conn.Close()
}

// CloseWrite lets net/http end its side first.
func (t *trackedConn) CloseWrite() error {
	if half, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// begin notes a request in hand. It is false for a connection that was closed to
// make room: then nobody would hear the answer.
func (t *trackedConn) begin() bool {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	if t.gone {
		return false
	}
	t.serving++
	t.served = true
	return true
}

func (t *trackedConn) end() {
	t.all.mu.Lock()
	defer t.all.mu.Unlock()
	if t.serving--; t.serving == 0 && !t.gone {
		t.all.open.MoveToBack(t.place)
	}
}

type connectionKey struct{}

// remember puts a request's connection into its context, for watch.
func (c *connections) remember(ctx context.Context, conn net.Conn) context.Context {
	switch outer := conn.(type) {
	case plainConn:
		conn = outer.Conn
	case *tls.Conn:
		conn = outer.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// watch is next, with requests counted on their connections.
func (c *connections) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t, ok := r.Context().Value(connectionKey{}).(*trackedConn); ok {
			if !t.begin() {
				panic(http.ErrAbortHandler)
			}
			defer t.end()
		}
		next.ServeHTTP(w, r)
	})
}
