package admin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"portcullis/admin"
)

// quick are timeouts that a test can wait for. A held connection is one that stands
// patience after it should have been cut off.
var quick = admin.Timeouts{Header: 300 * time.Millisecond, Request: 600 * time.Millisecond, Write: 300 * time.Millisecond, Idle: 500 * time.Millisecond}

const patience = 20 * time.Second

// attackers are connections that are slow in one phase each. Each one is held open
// until the server cuts it off.
var attackers = map[string]func(conn net.Conn){
	"says nothing": func(net.Conn) {},
	"slow header": func(conn net.Conn) {
		drip(conn, "GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: "+strings.Repeat("a", 10_000))
	},
	"slow header, many lines": func(conn net.Conn) {
		drip(conn, "GET /ping HTTP/1.1\r\nHost: a\r\n"+strings.Repeat("A: b\r\n", 2000))
	},
	"slow body": func(conn net.Conn) {
		io.WriteString(conn, "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
		drip(conn, strings.Repeat("a", 100_000))
	},
	"slow chunks": func(conn net.Conn) {
		io.WriteString(conn, "POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		drip(conn, strings.Repeat("1\r\na\r\n", 100_000))
	},
	"a body that never comes": func(conn net.Conn) {
		io.WriteString(conn, "POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
	},
	"a body that nobody reads": func(conn net.Conn) {
		io.WriteString(conn, "POST /ping HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
		drip(conn, strings.Repeat("a", 100_000))
	},
	"slow second request": func(conn net.Conn) {
		io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
		drip(conn, "GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: "+strings.Repeat("a", 10_000))
	},
	"idle after a request": func(conn net.Conn) { io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n") },
	"never reads": func(conn net.Conn) {
		io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
	},
}

// drip sends a byte every 10 ms until the other side closes.
func drip(conn net.Conn, text string) {
	for i := range len(text) {
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// phases is a handler that reads a body at /read, and answers at /large with more
// than any socket buffer takes.
func phases(ended *sync.WaitGroup) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended.Add(1)
		defer ended.Done()
		switch r.URL.Path {
		case "/read":
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/large":
			w.Write(make([]byte, 64<<20))
		}
		io.WriteString(w, "pong")
	})
}

// cutOff waits for the server to end the connection. Where reads is false it leaves
// unread what the server sends, as a slow reader does.
func cutOff(conn net.Conn, reads bool) error {
	conn.SetDeadline(time.Now().Add(patience))
	if !reads {
		// Unread bytes stand before the end, so the end shows in writing.
		for {
			if _, err := conn.Write([]byte("x")); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return err
				}
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

func TestSlowConnectionsAreCutOffInEveryPhase(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		var handlers sync.WaitGroup
		cfg := admin.ServerConfig{Handler: phases(&handlers), Timeouts: quick, Grace: time.Second}
		if encrypted {
			cfg.TLSCert, cfg.TLSKey, _ = certificate(t)
		}
		addr, stop, stopped := run(t, cfg)
		for what, attack := range attackers {
			t.Run(fmt.Sprintf("%s, TLS %t", what, encrypted), func(t *testing.T) {
				t.Parallel()
				conn := connect(t, addr, encrypted)
				go attack(conn)
				if err := cutOff(conn, what != "never reads"); err != nil {
					t.Errorf("the connection is held: %v", err)
				}
			})
		}
		if encrypted {
			t.Run("no handshake", func(t *testing.T) {
				t.Parallel()
				conn, err := net.Dial("tcp", addr)
				must(t, err)
				defer conn.Close()
				go drip(conn, "\x16\x03\x01\x02\x00\x01"+strings.Repeat("\x00", 500))
				if err := cutOff(conn, true); err != nil {
					t.Errorf("the connection is held: %v", err)
				}
			})
			t.Run("HTTP/2 that says nothing", func(t *testing.T) {
				t.Parallel()
				conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				must(t, err)
				defer conn.Close()
				if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
					t.Fatalf("the server speaks %q", got)
				}
				io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
				if err := cutOff(conn, true); err != nil {
					t.Errorf("the connection is held: %v", err)
				}
			})
		}
		t.Cleanup(func() {
			stop()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			handlers.Wait() // none is left behind by a caller that does not read
		})
	}
}

func connect(t *testing.T, addr string, encrypted bool) net.Conn {
	t.Helper()
	var conn net.Conn
	var err error
	if encrypted {
		conn, err = tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	} else {
		conn, err = net.Dial("tcp", addr)
	}
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestSlowConnectionsDoNotKeepOthersOut: far more slow connections than there is room
// for, of every sort that holds no request, and with the timeouts of production;
// honest calls are answered all the while.
func TestSlowConnectionsDoNotKeepOthersOut(t *testing.T) {
	h := newHouse(t, options{})
	addr, _, _ := run(t, admin.ServerConfig{Handler: h.api.Handler(), MaxConns: 50, MaxConnsPerPeer: 50})
	ctx, end := context.WithCancel(context.Background())
	var attack sync.WaitGroup
	begun := make(chan struct{}, 1000)
	for i := range 20 {
		for _, begin := range []string{"", "GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: ", "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n", "POST /api/role/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9"} {
			attack.Go(func() {
				for ctx.Err() == nil { // whoever is cut off comes back
					conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
					if err != nil {
						continue
					}
					stopClose := context.AfterFunc(ctx, func() { conn.Close() })
					io.WriteString(conn, begin)
					select {
					case begun <- struct{}{}:
					default:
					}
					io.Copy(io.Discard, conn)
					stopClose()
					conn.Close()
					time.Sleep(time.Duration(300+10*i) * time.Millisecond)
				}
			})
		}
	}
	t.Cleanup(func() { end(); attack.Wait() })
	for range 160 { // all the room is taken, and those that were cut off have come back
		<-begun
	}
	failed, calls := 0, 300
	for range calls {
		conn, err := net.Dial("tcp", addr)
		must(t, err)
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET /api/roles HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", h.keys["manager"])
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != 200 {
			failed++
		}
		conn.Close()
	}
	// A call is the newest connection, so the last to make room.
	if failed > 0 {
		t.Errorf("%d of %d honest calls failed", failed, calls)
	}
}
