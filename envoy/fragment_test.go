package envoy

import (
	"bytes"
	"net"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// In the path field of a check Envoy writes '!' for each byte of what is not UTF-8,
// and sends the upstream the bytes. A connection manager without normalize_path
// takes such bytes over HTTP/2, so a fragment, which cannot set it, has the gate see
// the path as it will be sent; the gate then refuses what does not agree.
func TestFragmentShowsTheGateThePathThatIsSent(t *testing.T) {
	options := Options{Permissive: "127.0.0.1:0"}
	r := startRig(t, options, func(b *bootstrapv3.Bootstrap) { useFragment(t, b, options) })
	const path = "/ad\xffmin"
	getHTTP2(t, r.envoy.Addr(ListenerPermissive), path)
	asked := r.asked()
	if asked == nil {
		t.Fatal("the gate was not asked: Envoy has learned to refuse such a path")
	}
	if asked.GetPath() == path {
		t.Fatal("Envoy shows the path as it is: the header is not needed any more")
	}
	for _, h := range asked.GetHeaderMap().GetHeaders() {
		if h.Key == ":path" && string(h.RawValue) == path {
			return
		}
	}
	t.Errorf("the gate was asked about %q and was not shown %q: %v", asked.GetPath(), path, asked.GetHeaderMap())
}

// useFragment puts the fragment's filter into the listener that normalises nothing.
func useFragment(t *testing.T, b *bootstrapv3.Bootstrap, options Options) {
	t.Helper()
	parts, err := Fragment(options)
	if err != nil {
		t.Fatal(err)
	}
	for _, listener := range b.StaticResources.Listeners {
		if listener.Name != ListenerPermissive {
			continue
		}
		filter := listener.FilterChains[0].Filters[0]
		var manager hcmv3.HttpConnectionManager
		if err := filter.GetTypedConfig().UnmarshalTo(&manager); err != nil {
			t.Fatal(err)
		}
		manager.HttpFilters[0] = parts.Filter
		if err := filter.GetTypedConfig().MarshalFrom(&manager); err != nil {
			t.Fatal(err)
		}
	}
}

// getHTTP2 sends a GET with any bytes for a path, which Go's own client would not,
// and waits for an answer.
func getHTTP2(t *testing.T, addr, path string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "a"}, {Name: ":path", Value: path},
	} {
		if err := fields.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if frame.Header().StreamID == 1 {
			return
		}
	}
}
