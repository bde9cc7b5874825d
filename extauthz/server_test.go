package extauthz

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// running is a server that answers, and how to stop it.
type running struct {
	*Server
	stop func()
	done chan error
}

func (g *gate) serve(cfg ServerConfig) *running {
	g.Helper()
	cfg.Core = g.core
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := NewServer(cfg)
	g.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	g.Cleanup(func() {
		cancel()
		select {
		case err := <-r.done:
			g.must(err)
		case <-time.After(30 * time.Second):
			g.Error("the server did not stop")
		}
	})
	return r
}

// wait returns what Run returned; the cleanup still finds it.
func (r *running) wait(g *gate) error {
	g.Helper()
	select {
	case err := <-r.done:
		r.done <- nil
		return err
	case <-time.After(30 * time.Second):
		g.Fatal("the server did not stop")
		return nil
	}
}

func dial(tb testing.TB, target string, options ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	if len(options) == 0 {
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	return conn
}

func deadline(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

// checkOver asks through a connection with the generated client.
func (g *gate) checkOver(conn *grpc.ClientConn, r request) string {
	g.Helper()
	response, err := authv3.NewAuthorizationClient(conn).Check(deadline(g), r.message())
	g.must(err)
	return g.verdictOf(response)
}

func (g *gate) healthOver(conn *grpc.ClientConn, service string) grpc_health_v1.HealthCheckResponse_ServingStatus {
	g.Helper()
	response, err := grpc_health_v1.NewHealthClient(conn).Check(deadline(g), &grpc_health_v1.HealthCheckRequest{Service: service})
	g.must(err)
	return response.Status
}

// rawCodec sends bytes as they are and returns bytes as they came.
type rawCodec struct{}

func (rawCodec) Name() string { return proto.Name }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func rawCheck(tb testing.TB, conn *grpc.ClientConn, req []byte) ([]byte, error) {
	tb.Helper()
	var resp []byte
	err := conn.Invoke(deadline(tb), "/"+ServiceName+"/Check", req, &resp, grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallSendMsgSize(1<<30))
	return resp, err
}

// Whatever bytes come, the answer is an explicit denial or a gRPC error, never an
// allow, and the server goes on.
func TestHostileBytesNeverAllowAndNeverKill(t *testing.T) {
	g := newGate(t, nil)
	s := g.serve(ServerConfig{})
	conn := dial(t, s.Addrs()[0].String())
	good := marshal(t, request{path: "/healthz"}.message())
	messages := map[string][]byte{
		"empty":                  {},
		"missing attributes":     {0x0a, 0x00},
		"garbage":                []byte("\xff\xff\xffgarbage\x00"),
		"text":                   []byte("GET / HTTP/1.1\r\n\r\n"),
		"truncated":              good[:len(good)/2],
		"5 MiB of zeros":         make([]byte, 5<<20),
		"5 MiB that begin well":  append(append([]byte{}, good...), make([]byte, 5<<20)...),
		"63 MiB":                 make([]byte, 63<<20),
		"more than is received":  make([]byte, 65<<20),
		"nested past all limits": nested(20000),
	}
	for name, req := range crafted(t) {
		if !strings.Contains(name, "rich") && !strings.Contains(name, "typical") {
			messages["crafted: "+name] = req
		}
	}
	for name, req := range messages {
		resp, err := rawCheck(t, conn, req)
		if err == nil {
			if response := read(t, resp); response.GetStatus().GetCode() == 0 || response.GetDeniedResponse() == nil {
				t.Errorf("%s: %v", name, response)
			}
		} else if code := status.Code(err); code != codes.InvalidArgument && code != codes.ResourceExhausted {
			t.Errorf("%s: %v", name, err)
		}
		if got := g.checkOver(conn, request{path: "/healthz"}); got != "ok" {
			t.Fatalf("after %s: %s", name, got)
		}
	}
	for _, name := range []string{"empty", "missing attributes", "5 MiB of zeros", "63 MiB"} {
		if _, err := rawCheck(t, conn, messages[name]); err != nil {
			t.Errorf("%s must be denied, not failed: %v", name, err)
		}
	}
}

// A compressed or many-framed message arrives in several buffers.
func TestMessageInSeveralBuffersIsTheSame(t *testing.T) {
	g := newGate(t, nil)
	c := newCarrier(g.core)
	req := marshal(t, request{path: "/posts/1", headers: bearer(g.token("bob"))}.message())
	for _, cut := range []int{0, 1, len(req) / 2, len(req)} {
		k := c.calls.Get().(*call)
		parts := mem.BufferSlice{mem.SliceBuffer(req[:cut]), mem.SliceBuffer(req[cut:])}
		if err := c.Unmarshal(parts, k); err != nil || k.err != nil {
			t.Fatal(err, k.err)
		}
		if got := g.verdictOf(read(t, *k.resp)); got != "ok" {
			t.Errorf("cut at %d: %s", cut, got)
		}
	}
}

func TestCallWithoutAResponseIsAnError(t *testing.T) {
	g := newGate(t, nil)
	c := newCarrier(g.core)
	empty := []byte{}
	for _, k := range []*call{{carrier: c}, {carrier: c, resp: &empty}} {
		if b, err := c.Marshal(k); err == nil {
			t.Errorf("no response became %v on the wire, which is an allow", b)
		}
	}
}

func TestFaultsReachEnvoyAsAsked(t *testing.T) {
	g := newGate(t, func(cfg *Config) { cfg.Faults = FaultsUnavailable })
	conn := dial(t, g.serve(ServerConfig{}).Addrs()[0].String())
	g.store.away.Store(true)
	_, err := authv3.NewAuthorizationClient(conn).Check(deadline(t), request{path: "/posts/1", headers: bearer(g.token("ann"))}.message())
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "store_unavailable") {
		t.Errorf("got %v", err)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	g := newGate(t, nil)
	conn := dial(t, g.serve(ServerConfig{}).Addrs()[0].String())
	client := authv3.NewAuthorizationClient(conn)
	ctx := deadline(t)
	tokens := map[string]string{"ann": g.token("ann"), "bob": g.token("bob"), "eve": g.token("eve")}
	var wrong atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 40 {
				for who, token := range tokens {
					response, err := client.Check(ctx, request{path: "/me", headers: bearer(token)}.message())
					if err != nil || asserted(response)["x-auth-subject"] != who {
						wrong.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d responses were wrong or another caller's", n)
	}
}

func TestHealthFollowsReadiness(t *testing.T) {
	g := newGate(t, nil)
	var ready atomic.Bool
	conn := dial(t, g.serve(ServerConfig{Ready: ready.Load}).Addrs()[0].String())
	for _, service := range []string{"", ServiceName} {
		if got := g.healthOver(conn, service); got != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("before it is ready: %v", got)
		}
	}
	ready.Store(true)
	g.await(func() bool { return g.healthOver(conn, ServiceName) == grpc_health_v1.HealthCheckResponse_SERVING })
	// Once it has served, losing touch with the store must not take it out of
	// service: anonymous rules go on.
	ready.Store(false)
	time.Sleep(3 * readyPoll)
	if got := g.healthOver(conn, ""); got != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("later: %v", got)
	}
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	g := newGate(t, nil)
	s := g.serve(ServerConfig{DrainDelay: 200 * time.Millisecond})
	conn := dial(t, s.Addrs()[0].String())
	g.await(func() bool { return g.healthOver(conn, "") == grpc_health_v1.HealthCheckResponse_SERVING })
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(deadline(t), &grpc_health_v1.HealthCheckRequest{})
	g.must(err)
	first, err := watch.Recv()
	g.must(err)
	if first.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("the watch begins with %v", first.Status)
	}

	// A check that waits for a hanging store is in flight when the drain begins.
	g.store.hangs.Store(true)
	client, flown := authv3.NewAuthorizationClient(conn), make(chan error, 1)
	go func() {
		_, err := client.Check(context.Background(), request{path: "/posts/1", headers: bearer(g.token("ann"))}.message())
		flown <- err
	}()
	before := g.store.loads.Load()
	g.await(func() bool { return g.store.loads.Load() > before || len(flown) > 0 })
	began := time.Now()
	s.stop()

	last, err := watch.Recv()
	g.must(err)
	if last.Status != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("the watch hears %v", last.Status)
	}
	if got := g.checkOver(conn, request{path: "/healthz"}); got != "ok" {
		t.Errorf("during the drain delay: %s", got)
	}
	if err := <-flown; err != nil {
		t.Errorf("the check in flight was lost: %v", err)
	}
	g.must(s.wait(g))
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the drain took %v: the watch held it up", took)
	}
}
