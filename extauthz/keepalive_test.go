package extauthz

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Envoy pings idle connections. Under grpc-go's default policy the fourth ping
// without a call is answered by GOAWAY too_many_pings; ours takes one each 10 s.
func TestPingsOfAnIdleConnectionAreTaken(t *testing.T) {
	t.Parallel()
	pings, pause := 4, 10300*time.Millisecond
	if testing.Short() {
		// A single ping shows only that the exchange below works.
		pings = 1
	}
	g := newGate(t, nil)
	conn, err := net.Dial("tcp", g.serve(ServerConfig{}).Addrs()[0].String())
	g.must(err)
	defer conn.Close()
	_, err = io.WriteString(conn, http2.ClientPreface)
	g.must(err)
	framer := http2.NewFramer(conn, conn)
	g.must(framer.WriteSettings())

	acks, failed := make(chan struct{}, pings), make(chan string, 1)
	go func() {
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				failed <- err.Error()
				return
			}
			switch f := frame.(type) {
			case *http2.PingFrame:
				if f.IsAck() {
					acks <- struct{}{}
				}
			case *http2.GoAwayFrame:
				failed <- "GOAWAY " + f.ErrCode.String() + " " + string(f.DebugData())
				return
			}
		}
	}()
	for i := range pings {
		if i > 0 {
			time.Sleep(pause)
		}
		g.must(framer.WritePing(false, [8]byte{byte(i)}))
		select {
		case <-acks:
		case why := <-failed:
			t.Fatalf("ping %d: %s", i+1, why)
		case <-time.After(10 * time.Second):
			t.Fatalf("ping %d: no answer", i+1)
		}
	}
	select {
	case why := <-failed:
		t.Fatalf("after the pings: %s", why)
	case <-time.After(100 * time.Millisecond):
	}
}
