package testkit

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func TestUpstreamEchoesWhatItReceived(t *testing.T) {
	upstream := RunUpstream(t)
	for _, http2 := range []bool{false, true} {
		var protocols http.Protocols
		protocols.SetHTTP1(!http2)
		protocols.SetUnencryptedHTTP2(http2)
		transport := &http.Transport{Protocols: &protocols}
		t.Cleanup(transport.CloseIdleConnections)
		req, err := http.NewRequestWithContext(t.Context(), "PATCH", "http://"+upstream.Addr()+"/a%2Fb?c=d", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "blog.example.com"
		req.Header["X-Twice"] = []string{"one", "two"}
		before := upstream.Requests()
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var echo Echo
		if err := json.NewDecoder(resp.Body).Decode(&echo); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if echo.Protocol != resp.Proto || http2 != (resp.ProtoMajor == 2) {
			t.Errorf("http2 %v: echoed %s, answered in %s", http2, echo.Protocol, resp.Proto)
		}
		if echo.Method != "PATCH" || echo.Path != "/a%2Fb?c=d" || echo.Host != "blog.example.com" || echo.Body != "body" {
			t.Errorf("http2 %v: echoed %+v", http2, echo)
		}
		if got := echo.Headers["X-Twice"]; !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("http2 %v: X-Twice is %q", http2, got)
		}
		if n := upstream.Requests() - before; n != 1 {
			t.Errorf("http2 %v: counted %d requests, want 1", http2, n)
		}
	}
}

func TestUpstreamEchoesGRPC(t *testing.T) {
	upstream := RunUpstream(t)
	conn, err := grpc.NewClient(upstream.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-twice", "one", "x-twice", "two")
	echo, err := CallEcho(ctx, conn, "/blog.Posts/Read")
	if err != nil {
		t.Fatal(err)
	}
	if echo.Path != "/blog.Posts/Read" || !slices.Equal(echo.Headers["X-Twice"], []string{"one", "two"}) {
		t.Errorf("echoed %+v", echo)
	}
	if upstream.Requests() != 1 {
		t.Errorf("counted %d requests, want 1", upstream.Requests())
	}
}

func TestUpstreamEchoesWebSocket(t *testing.T) {
	upstream := RunUpstream(t)
	ws, _, err := DialWebSocket(t.Context(), upstream.Addr(), "/chat", "blog.example.com", http.Header{"X-Who": {"me"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	hello, err := ws.Receive()
	if err != nil {
		t.Fatal(err)
	}
	var echo Echo
	if err := json.Unmarshal([]byte(hello), &echo); err != nil {
		t.Fatalf("first message %q: %v", hello, err)
	}
	if echo.Path != "/chat" || echo.Headers.Get("X-Who") != "me" {
		t.Errorf("echoed %+v", echo)
	}
	for _, text := range []string{"hi", strings.Repeat("x", 500)} {
		if err := ws.Send(text); err != nil {
			t.Fatal(err)
		}
		if got, err := ws.Receive(); err != nil || got != text {
			t.Errorf("sent %q, got %q, %v", text, got, err)
		}
	}
}
