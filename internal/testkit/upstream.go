package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

// maxEchoBody bounds what an upstream keeps of one request.
const maxEchoBody = 8 << 20

// Echo is what an upstream received, and answers as JSON.
type Echo struct {
	Protocol string      `json:"protocol"` // HTTP/1.1 or HTTP/2.0
	Method   string      `json:"method"`
	Path     string      `json:"path"` // as on the wire, query included
	Host     string      `json:"host"`
	Headers  http.Header `json:"headers"` // canonical names, duplicates kept in order
	Body     string      `json:"body,omitempty"`
}

// Upstream is a server that answers every request with what it received: HTTP/1.1
// and HTTP/2 without TLS as an Echo in JSON; gRPC, any method, as a
// google.protobuf.Struct of the same fields; a WebSocket upgrade by echoing
// text and binary messages, the first message being the Echo. Its methods are
// safe for concurrent use.
type Upstream struct {
	server   *http.Server
	grpc     *grpc.Server
	addr     string
	served   chan error
	requests atomic.Int64
}

// StartUpstream starts an upstream on an address such as 127.0.0.1:0.
func StartUpstream(addr string) (*Upstream, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start upstream: %w", err)
	}
	u := &Upstream{addr: l.Addr().String(), served: make(chan error, 1)}
	u.grpc = grpc.NewServer(grpc.UnknownServiceHandler(echoCall))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	u.server = &http.Server{Handler: http.HandlerFunc(u.serve), Protocols: &protocols, MaxHeaderBytes: 8 << 20}
	go func() { u.served <- u.server.Serve(l) }()
	return u, nil
}

// RunUpstream starts an upstream for one test.
func RunUpstream(tb testing.TB) *Upstream {
	tb.Helper()
	u, err := StartUpstream("127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := u.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return u
}

// Addr returns host:port.
func (u *Upstream) Addr() string { return u.addr }

// Requests returns how many requests have arrived: a denied one must not move it.
func (u *Upstream) Requests() int64 { return u.requests.Load() }

// Stop ends the upstream. A WebSocket ends when its client goes.
func (u *Upstream) Stop() error {
	err := u.server.Close()
	if served := <-u.served; !errors.Is(served, http.ErrServerClosed) {
		return fmt.Errorf("upstream: %w", served)
	}
	return err
}

func (u *Upstream) serve(w http.ResponseWriter, r *http.Request) {
	u.requests.Add(1)
	switch {
	case r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc"):
		u.grpc.ServeHTTP(w, r)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		serveWebSocket(w, r)
	default:
		body, err := io.ReadAll(io.LimitReader(r.Body, maxEchoBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		echo := echoOf(r)
		echo.Body = string(body)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(echo)
	}
}

func echoOf(r *http.Request) Echo {
	return Echo{Protocol: r.Proto, Method: r.Method, Path: r.RequestURI, Host: r.Host, Headers: r.Header}
}

// echoCall answers any unary gRPC method.
func echoCall(_ any, stream grpc.ServerStream) error {
	var in structpb.Struct
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())
	headers := make(map[string]any)
	for name, values := range md {
		all := make([]any, len(values))
		for i, v := range values {
			all[i] = v
		}
		headers[http.CanonicalHeaderKey(name)] = all
	}
	out, err := structpb.NewStruct(map[string]any{
		"protocol": "HTTP/2.0", "method": http.MethodPost, "path": method,
		"host": strings.Join(md.Get(":authority"), ","), "headers": headers,
	})
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return stream.SendMsg(out)
}

// CallEcho calls a gRPC method of an upstream and returns what it received.
func CallEcho(ctx context.Context, conn grpc.ClientConnInterface, method string) (Echo, error) {
	var out structpb.Struct
	if err := conn.Invoke(ctx, method, &structpb.Struct{}, &out); err != nil {
		return Echo{}, err
	}
	text, err := out.MarshalJSON()
	if err != nil {
		return Echo{}, err
	}
	var echo Echo
	if err := json.Unmarshal(text, &echo); err != nil {
		return Echo{}, fmt.Errorf("read the upstream's echo: %w", err)
	}
	return echo, nil
}
