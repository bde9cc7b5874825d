package clientaddr_test

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"portcullis/internal/clientaddr"
)

const ours = "10.0.0.0/8, 192.0.2.7, 2001:db8:aa::/48"

func proxies(t testing.TB, text string) clientaddr.Proxies {
	t.Helper()
	p, err := clientaddr.ParseProxies(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func request(peer string, forwarded ...string) *http.Request {
	return &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": forwarded}}
}

func TestTheClientIsTheRightmostStranger(t *testing.T) {
	p := proxies(t, ours)
	for _, c := range []struct {
		what, peer string
		forwarded  []string
		want       string
	}{
		{"a direct caller", "203.0.113.9:4711", nil, "203.0.113.9"},
		{"a direct caller that forges the header", "203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		{"a direct caller that names a proxy", "203.0.113.9:4711", []string{"198.51.100.1, 10.0.0.1"}, "203.0.113.9"},
		{"one proxy", "10.0.0.1:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"one proxy, and a forger behind it", "10.0.0.1:80", []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
		{"a forger that names our own network", "10.0.0.1:80", []string{"10.6.6.6,203.0.113.9"}, "203.0.113.9"},
		{"two proxies", "10.0.0.1:80", []string{"203.0.113.9, 192.0.2.7"}, "203.0.113.9"},
		{"two proxies, a header line each", "10.0.0.1:80", []string{"203.0.113.9", "192.0.2.7"}, "203.0.113.9"},
		{"a forged line above the proxy's own", "10.0.0.1:80", []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
		{"only proxies: the leftmost", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"a proxy that says nothing", "10.0.0.1:80", nil, "10.0.0.1"},
		{"a proxy on an address of its own", "192.0.2.7:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"its neighbour is no proxy", "192.0.2.8:80", []string{"203.0.113.9"}, "192.0.2.8"},

		{"IPv6", "[2001:db8:aa::1]:80", []string{"2001:db8:bb::9"}, "2001:db8:bb::9"},
		{"IPv6 in brackets", "[2001:db8:aa::1]:80", []string{"[2001:db8:bb::9]"}, "2001:db8:bb::9"},
		{"IPv6 with a port", "[2001:db8:aa::1]:80", []string{"[2001:db8:bb::9]:4711"}, "2001:db8:bb::9"},
		{"IPv6 in long form", "[2001:db8:aa::1]:80", []string{"2001:0DB8:00bb:0:0:0:0:9"}, "2001:db8:bb::9"},
		{"IPv4 with a port", "10.0.0.1:80", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"a peer mapped into IPv6", "[::ffff:10.0.0.1]:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"a client mapped into IPv6", "10.0.0.1:80", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"a proxy mapped into IPv6", "10.0.0.1:80", []string{"203.0.113.9, ::ffff:10.0.0.2"}, "203.0.113.9"},
		{"a stranger mapped into IPv6", "[::ffff:203.0.113.9]:80", []string{"198.51.100.1"}, "203.0.113.9"},
		{"a zone", "[fe80::1%eth0]:80", nil, "fe80::1"},

		{"an entry that cannot be read: the proxy that wrote it", "10.0.0.1:80", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"such an entry further left", "10.0.0.1:80", []string{"unknown, 10.0.0.2"}, "10.0.0.2"},
		{"left of the stranger nothing is read", "10.0.0.1:80", []string{"<script>, 203.0.113.9"}, "203.0.113.9"},
		{"an empty header", "10.0.0.1:80", []string{""}, "10.0.0.1"},
		{"an empty entry", "10.0.0.1:80", []string{"203.0.113.9,"}, "10.0.0.1"},
		{"a number", "10.0.0.1:80", []string{"3405803785"}, "10.0.0.1"},
		{"an octal address", "10.0.0.1:80", []string{"0313.0.0161.011"}, "10.0.0.1"},
		{"an IPv4 address in brackets", "10.0.0.1:80", []string{"[203.0.113.9]"}, "10.0.0.1"},
		{"a network", "10.0.0.1:80", []string{"203.0.113.0/24"}, "10.0.0.1"},
		{"a port that is none", "10.0.0.1:80", []string{"203.0.113.9:99999"}, "10.0.0.1"},
		{"a name", "10.0.0.1:80", []string{"client.example.com"}, "10.0.0.1"},
		{"a unix socket", "@", []string{"203.0.113.9"}, ""},
	} {
		if got := p.Client(request(c.peer, c.forwarded...)).String(); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestNobodyIsTrustedByDefault(t *testing.T) {
	r := request("127.0.0.1:80", "203.0.113.9")
	r.Header.Set("X-Forwarded-Proto", "https")
	if got := (clientaddr.Proxies{}).Client(r); got.String() != "127.0.0.1" || got.HTTPS {
		t.Errorf("got %+v", got)
	}
}

func TestHTTPSIsTLSOrATrustedProxysWord(t *testing.T) {
	p := proxies(t, ours)
	for _, c := range []struct {
		what, peer string
		proto      []string
		tls, want  bool
	}{
		{"TLS that ends here", "203.0.113.9:1", nil, true, true},
		{"in the clear", "203.0.113.9:1", nil, false, false},
		{"a stranger's word", "203.0.113.9:1", []string{"https"}, false, false},
		{"a proxy's word", "10.0.0.1:1", []string{"https"}, false, true},
		{"a proxy's word in capitals", "10.0.0.1:1", []string{"HTTPS"}, false, true},
		{"a proxy that says http", "10.0.0.1:1", []string{"http"}, false, false},
		{"a proxy that says nothing", "10.0.0.1:1", nil, false, false},
		{"an empty word", "10.0.0.1:1", []string{""}, false, false},
		{"one hop of two in the clear", "10.0.0.1:1", []string{"https, http"}, false, false},
		{"the other hop of two", "10.0.0.1:1", []string{"http", "https"}, false, false},
		{"two hops of TLS", "10.0.0.1:1", []string{"https,https"}, false, true},
		{"another word", "10.0.0.1:1", []string{"httpsx"}, false, false},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-Proto": c.proto}}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := p.Client(r).HTTPS; got != c.want {
			t.Errorf("%s: %t", c.what, got)
		}
	}
}

func TestWrongNetworksAreRefused(t *testing.T) {
	for _, text := range []string{"10.0.0.0/33", "10.0.0.1/8", "0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "localhost", "10.0.0.0/8,", ",", "10.0.0.0/8 192.0.2.7",
		"fe80::1%eth0", "10.0.0", "10.0.0.1:80", "[::1]", "*"} {
		if _, err := clientaddr.ParseProxies(text); err == nil {
			t.Errorf("%q is taken", text)
		} else if strings.Contains(err.Error(), "beyond its mask") != (text == "10.0.0.1/8") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, member := range map[string]string{
		"10.0.0.0/8": "10.9.9.9", " 192.0.2.7 ": "192.0.2.7", "::1": "::1", "::ffff:10.0.0.0/104": "10.1.2.3", "::ffff:192.0.2.7": "192.0.2.7", "128.0.0.0/1": "203.0.113.9",
	} {
		p := proxies(t, text)
		if !p.Trusts(netip.MustParseAddr(member)) {
			t.Errorf("%q does not hold %s", text, member)
		}
		if p.Trusts(netip.MustParseAddr("11.0.0.1")) {
			t.Errorf("%q holds 11.0.0.1", text)
		}
	}
	if p := proxies(t, ""); p.Trusts(netip.MustParseAddr("127.0.0.1")) {
		t.Error("nobody holds somebody")
	}
}

// FuzzClient: no header makes a stranger anybody but itself, and what comes out is
// an address in its one form.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{"203.0.113.9", "10.0.0.1, ::ffff:1.2.3.4", "[::1]:80,,", "fe80::1%a", strings.Repeat("10.0.0.1,", 50)} {
		f.Add(seed)
	}
	p := proxies(f, ours)
	f.Fuzz(func(t *testing.T, header string) {
		if got := p.Client(request("203.0.113.9:1", header)).String(); got != "203.0.113.9" {
			t.Errorf("%q makes a stranger %s", header, got)
		}
		if got := p.Client(request("10.0.0.1:1", header+", 203.0.113.9")).String(); got != "203.0.113.9" {
			t.Errorf("%q makes a stranger behind a proxy %s", header, got)
		}
		addr := p.Client(request("10.0.0.1:1", header)).Addr
		if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
			t.Errorf("%q makes %v", header, addr)
		}
	})
}

// FuzzProxies: networks that are taken are no network of all addresses, hold what
// they name and nobody else's, and no error quotes the text.
func FuzzProxies(f *testing.F) {
	for _, seed := range []string{"", ours, "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "10.0.0.1/8", "fe80::1%eth0", ",", "1.2.3.4,1.2.3.4", "::ffff:0:0/96", "0.0.0.0/1,128.0.0.0/1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := clientaddr.ParseProxies(text)
		if err != nil {
			if len(err.Error()) > 120 || p.Trusts(netip.MustParseAddr("127.0.0.1")) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for part := range strings.SplitSeq(text, ",") {
			part = strings.TrimSpace(part)
			addr, err := netip.ParseAddr(part)
			if prefix, perr := netip.ParsePrefix(part); perr == nil {
				if addr, err = prefix.Addr(), nil; prefix.Bits() == 0 {
					t.Fatalf("%q is taken", text)
				}
			}
			if err == nil && !p.Trusts(addr) {
				t.Fatalf("%q does not hold %s", text, addr)
			}
		}
		if !strings.Contains(text, "/") && !strings.Contains(text, "203.0.113.9") && p.Trusts(netip.MustParseAddr("203.0.113.9")) {
			t.Fatalf("%q holds a stranger", text)
		}
	})
}

func TestANetworkIsOneCaller(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64", "::1": "::/64",
	} {
		if got := clientaddr.Network(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := clientaddr.Network(netip.Addr{}); got.IsValid() {
		t.Errorf("no address is %s", got)
	}
}
