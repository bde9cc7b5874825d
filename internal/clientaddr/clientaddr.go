// Package clientaddr tells who sent an HTTP request where proxies stand in front:
// the client's address, and whether the client spoke TLS. What a request says of
// itself in X-Forwarded-For and X-Forwarded-Proto counts only as far as trusted
// proxies wrote it.
package clientaddr

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the networks whose X-Forwarded-For and X-Forwarded-Proto count. The
// zero Proxies trusts nobody. It is safe for concurrent use.
type Proxies struct {
	networks []netip.Prefix // IPv4 ones never in their IPv6-mapped form
}

// Client is the sender of a request.
type Client struct {
	// Addr is the client's address: without a zone, an IPv4 one never in its
	// IPv6-mapped form. It is not valid where the connection has no address, as on a
	// unix socket.
	Addr netip.Addr
	// HTTPS says that the client's own connection is TLS: it ends here, or a trusted
	// proxy says so.
	HTTPS bool
}

// String is the address as the audit shows it, "" where there is none.
func (c Client) String() string {
	if !c.Addr.IsValid() {
		return ""
	}
	return c.Addr.String()
}

// Network is what counts as one caller where callers are counted: an IPv4 address
// alone, an IPv6 one with its /64, which a single customer is given. Not valid for an
// address that is not.
func Network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return netip.Prefix{}
	}
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // the bits fit the address
	return network
}

// ParseProxies reads networks and single addresses joined by commas, such as
// "10.0.0.0/8, 192.0.2.7, 2001:db8::/32". An empty text is nobody. A network of
// all addresses is refused: with it every caller would choose its own address.
// No error quotes the text.
func ParseProxies(text string) (Proxies, error) {
	var p Proxies
	if strings.TrimSpace(text) == "" {
		return p, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		network, err := parseNetwork(strings.TrimSpace(part))
		if err != nil {
			return Proxies{}, err
		}
		p.networks = append(p.networks, network)
	}
	return p, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, errors.New("a part is no address and no network")
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, errors.New("a part is no address and no network")
	}
	if network != network.Masked() {
		return netip.Prefix{}, fmt.Errorf("a network has bits beyond its mask: write %s", network.Masked())
	}
	if network.Addr().Is4In6() {
		// Addresses are compared unmapped, so a mapped network would match none.
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	if network.Bits() <= 0 {
		return netip.Prefix{}, errors.New("a network of all addresses would let every caller choose its own address")
	}
	return network, nil
}

// Trusts reports whether the address is one of the proxies'.
func (p Proxies) Trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, network := range p.networks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// Client returns who sent r. From a peer that is not trusted that is the peer,
// whatever the headers say. From a trusted one it is the rightmost address of
// X-Forwarded-For that is not trusted: each proxy appends who asked it, so what
// stands left of the first stranger is that stranger's own word. Where an entry
// cannot be read, it is the proxy that wrote the entry; where every address is
// trusted, the leftmost.
func (p Proxies) Client(r *http.Request) Client {
	peer, _ := parseAddr(r.RemoteAddr)
	c := Client{Addr: peer, HTTPS: r.TLS != nil}
	if !peer.IsValid() || !p.Trusts(peer) {
		return c
	}
	c.HTTPS = c.HTTPS || forwardedHTTPS(r.Header["X-Forwarded-Proto"])
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var entry string
			rest, entry, more = cutLast(rest)
			addr, ok := parseAddr(entry)
			if !ok {
				return c
			}
			c.Addr = addr
			if !p.Trusts(addr) {
				return c
			}
		}
	}
	return c
}

// cutLast cuts the last entry off a list; more says whether any are left.
func cutLast(list string) (rest, entry string, more bool) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", list, false
	}
	return list[:i], list[i+1:], true
}

// parseAddr reads an address as connections and proxies write it: with or without
// a port, an IPv6 one with or without brackets.
func parseAddr(text string) (netip.Addr, bool) {
	text = strings.Trim(text, " \t")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		withPort, portErr := netip.ParseAddrPort(text)
		addr, err = withPort.Addr(), portErr
	}
	if err != nil {
		inner, ok := strings.CutPrefix(text, "[")
		inner, closed := strings.CutSuffix(inner, "]")
		if addr, err = netip.ParseAddr(inner); err != nil || !ok || !closed || !addr.Is6() {
			return netip.Addr{}, false
		}
	}
	return addr.Unmap().WithZone(""), true
}

// forwardedHTTPS reports whether every hop that is told of was TLS. One that was
// not is where a promise of TLS would be false.
func forwardedHTTPS(lines []string) bool {
	for _, line := range lines {
		for entry := range strings.SplitSeq(line, ",") {
			if !strings.EqualFold(strings.Trim(entry, " \t"), "https") {
				return false
			}
		}
	}
	return len(lines) > 0
}
