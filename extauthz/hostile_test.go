package extauthz

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

func TestTooLarge(t *testing.T) {
	g := newGate(t, nil)
	many := map[string]string{}
	for i := range 1001 {
		many["x-"+itoa(int64(i))] = "v"
	}
	g.expect("too_large", request{path: "/healthz", headers: many})
	g.expect("ok", request{path: "/healthz", headers: with(nil, "x", strings.Repeat("a", 900<<10))})
	g.expect("too_large", request{path: "/healthz", headers: with(nil, "x", strings.Repeat("a", 1<<20))})
	if got := g.verdictOf(g.askBytes(make([]byte, 5<<20))); got != "too_large" {
		t.Errorf("5 MiB of zeros: %s", got)
	}
}

// Text that is not UTF-8 may have come through Envoy from a client, so it must not
// end in a gRPC error, which failure_mode_allow would let through.
func TestTextThatIsNotUTF8IsDenied(t *testing.T) {
	g := newGate(t, nil)
	req := marshal(t, request{path: "/healthz", headers: with(nil, "x-marker", "marked")}.message())
	bad := []byte(strings.Replace(string(req), "marked", "mark\xff\xfe", 1))
	if got := g.verdictOf(g.askBytes(bad)); got != "ambiguous_request" {
		t.Errorf("got %s", got)
	}
}

func TestAbsentParts(t *testing.T) {
	g := newGate(t, nil)
	for name, m := range map[string]*authv3.CheckRequest{
		"attributes": {},
		"request":    {Attributes: &authv3.AttributeContext{}},
		"http":       {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
		"method":     {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Path: "/healthz", Host: "a"}}}},
		"path":       {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "a"}}}},
	} {
		if got := g.verdictOf(g.askBytes(marshal(t, m))); got != "ambiguous_request" {
			t.Errorf("without %s: %s", name, got)
		}
	}
}

func TestUnknownFieldsChangeNothing(t *testing.T) {
	g := newGate(t, nil)
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 900, protowire.BytesType), []byte("\xffwhatever"))
	for _, r := range []request{{path: "/posts/1", headers: bearer(g.token("bob"))}, {path: "/posts/1", method: "PUT", headers: bearer(g.token("bob"))}, {path: "/healthz"}, {path: "/nowhere"}} {
		m := r.message()
		want := g.verdictOf(g.askBytes(marshal(t, m)))
		m.ProtoReflect().SetUnknown(unknown)
		m.Attributes.ProtoReflect().SetUnknown(unknown)
		m.Attributes.Request.Http.ProtoReflect().SetUnknown(unknown)
		if got := g.verdictOf(g.askBytes(marshal(t, m))); got != want {
			t.Errorf("%s: %s became %s", r.path, want, got)
		}
	}
}

func TestNotACheckRequest(t *testing.T) {
	g := newGate(t, nil)
	good := marshal(t, request{path: "/healthz"}.message())
	for name, req := range map[string][]byte{"garbage": []byte("\x0f\x01garbage"), "truncated": good[:len(good)-3], "one byte": {0x0a}} {
		b, err := g.core.Check([]byte("kept"), req)
		if err != ErrNotCheckRequest || string(b) != "kept" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	g.expect("ok", request{path: "/healthz"})
}
