package envoy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"portcullis/policy"
)

// Names that the generated configuration uses, for those who read its counters
// and listeners.
const (
	ListenerIngress    = "ingress"    // also the connection manager's stat prefix
	ListenerPermissive = "permissive" // likewise
	ClusterGate        = "portcullis"
	ClusterUpstream    = "upstream"
	StatPrefix         = "portcullis" // of the ext_authz filter
)

// AuthzStat returns the name of an ext_authz counter (ok, denied, error,
// disabled, failure_mode_allowed, invalid) as seen through a listener.
func AuthzStat(listener, counter string) string {
	return "http." + listener + ".ext_authz." + StatPrefix + "." + counter
}

// UpstreamProtocol is what Envoy speaks to the upstream.
type UpstreamProtocol uint8

// The upstream protocols. The zero value is HTTP/1.1.
const (
	UpstreamHTTP1 UpstreamProtocol = iota // HTTP/1.1, whatever the client speaks
	UpstreamHTTP2                         // HTTP/2, for gRPC services
	UpstreamSame                          // what the client speaks; the upstream must take both
)

// ParseUpstreamProtocol reads "http1", "http2" or "same".
func ParseUpstreamProtocol(s string) (UpstreamProtocol, error) {
	switch s {
	case "http1":
		return UpstreamHTTP1, nil
	case "http2":
		return UpstreamHTTP2, nil
	case "same":
		return UpstreamSame, nil
	}
	return 0, fmt.Errorf("upstream protocol %q: use http1, http2 or same", s)
}

// Options say what to generate. An address is host:port, and port 0 lets the
// system choose where it is listened on.
type Options struct {
	// Listen is where clients come in. Default: 127.0.0.1:10000.
	Listen string
	// ListenTLS terminates TLS there; nil is plain HTTP.
	ListenTLS *ServerTLS
	// Admin is where Envoy's own admin listener is bound; it has no
	// authentication. Default: 127.0.0.1:9901.
	Admin string
	// Upstream is where allowed requests go: host:port or unix:///path. Bootstrap
	// requires it, Fragment ignores it.
	Upstream         string
	UpstreamProtocol UpstreamProtocol

	// Gate is where Envoy reaches the gate: host:port or unix:///path. Default:
	// 127.0.0.1:9191. GateAddress derives it from what the gate listens on.
	Gate string
	// GateTLS is required where the gate's listener has TLS; nil is plaintext.
	GateTLS *ClientTLS

	// OptIns are the ambiguities of a path that some rule of the policy opts into
	// (OptIns derives them): Envoy must then hand over what it would else refuse
	// or mend.
	OptIns policy.PathFlags
	// ConditionHeaders are the headers that conditions of the policy read
	// (policy.ConditionHeaders), in lower case: the gate is sent them as well.
	ConditionHeaders []string
	// FailureModeAllow lets requests through unchecked while the gate cannot be
	// asked. They carry no identity, and their credentials reach the upstream.
	FailureModeAllow bool

	// Permissive is the address of a second listener that normalises nothing, takes
	// underscores in header names and CONNECT, and sends the gate every header. It
	// exists so that tests can put the raw form of a request before the gate; never
	// expose it. Empty: there is none.
	Permissive string
}

// ServerTLS is a certificate that Envoy presents, and whose certificates it takes,
// as paths that Envoy reads.
type ServerTLS struct {
	CertFile string // PEM, with intermediates
	KeyFile  string // PEM
	// ClientCAFile holds the authorities that sign clients, PEM. Where it is set, a
	// client must present a certificate of theirs. Only what they signed comes to the
	// gate as source.principal; empty: certificates are not asked for.
	ClientCAFile string
	// ClientCertOptional lets clients in without a certificate. One that is presented
	// must be good all the same.
	ClientCertOptional bool
}

// ClientTLS is how Envoy verifies the gate, and proves itself to it, as paths
// that Envoy reads.
type ClientTLS struct {
	CAFile     string // PEM; required: without it Envoy would verify nothing
	ServerName string // in the gate's certificate; required for unix sockets, default: Gate's host
	CertFile   string // Envoy's own certificate, where the gate asks for one
	KeyFile    string
}

// withDefaults fills what is empty and reports every field that is wrong.
func (o Options) withDefaults() (Options, error) {
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:10000")
	o.Admin = cmp.Or(o.Admin, "127.0.0.1:9901")
	o.Gate = cmp.Or(o.Gate, "127.0.0.1:9191")
	var errs []error
	check := func(field, addr string, parse func(string) (endpoint, error)) {
		if _, err := parse(addr); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	check("Listen", o.Listen, parseListen)
	check("Admin", o.Admin, parseListen)
	check("Gate", o.Gate, parseEndpoint)
	if o.Upstream != "" {
		check("Upstream", o.Upstream, parseEndpoint)
	}
	if o.Permissive != "" {
		check("Permissive", o.Permissive, parseListen)
	}
	if o.UpstreamProtocol > UpstreamSame {
		errs = append(errs, wrong("UpstreamProtocol", "use one of the constants"))
	}
	if t := o.ListenTLS; t != nil && (t.CertFile == "" || t.KeyFile == "") {
		errs = append(errs, wrong("ListenTLS", "name both the certificate and the key"))
	} else if t != nil && t.ClientCertOptional && t.ClientCAFile == "" {
		errs = append(errs, wrong("ListenTLS", "name the CA file that signs clients; without one no certificate is asked for, optional or not"))
	}
	if t := o.GateTLS; t != nil {
		if t.CAFile == "" {
			errs = append(errs, wrong("GateTLS", "name the CA file that signed the gate's certificate; without one Envoy verifies nothing"))
		}
		if (t.CertFile == "") != (t.KeyFile == "") {
			errs = append(errs, wrong("GateTLS", "name both Envoy's certificate and its key, or neither"))
		}
		if t.ServerName == "" && strings.HasPrefix(o.Gate, unixScheme) {
			errs = append(errs, wrong("GateTLS", "a unix socket has no host; name the server that the gate's certificate is for"))
		}
	}
	return o, errors.Join(errs...)
}

func wrong(field, mend string) error { return fmt.Errorf("%s: %s", field, mend) }

const unixScheme = "unix://"

// endpoint is a parsed address: a path, or a host and a port.
type endpoint struct {
	path string // of a unix socket
	host string // a name or an IP address without brackets
	port uint32
}

func (e endpoint) isIP() bool { return net.ParseIP(e.host) != nil }

// parseEndpoint reads an address that Envoy connects to.
func parseEndpoint(s string) (endpoint, error) {
	if path, ok := strings.CutPrefix(s, unixScheme); ok {
		if !strings.HasPrefix(path, "/") {
			return endpoint{}, fmt.Errorf("%q: use unix:/// and an absolute path", s)
		}
		return endpoint{path: path}, nil
	}
	e, err := parseHostPort(s)
	if err == nil && e.port == 0 {
		err = fmt.Errorf("%q: port 0 cannot be connected to", s)
	}
	return e, err
}

// parseListen reads an address that Envoy binds.
func parseListen(s string) (endpoint, error) {
	e, err := parseHostPort(s)
	if err == nil && !e.isIP() {
		err = fmt.Errorf("%q: Envoy binds IP addresses only, such as 127.0.0.1 or 0.0.0.0", s)
	}
	return e, err
}

func parseHostPort(s string) (endpoint, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return endpoint{}, fmt.Errorf("%q: use host:port", s)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q: the port is a number from 0 to 65535", s)
	}
	return endpoint{host: host, port: uint32(n)}, nil
}

// GateAddress chooses where an Envoy on the same host reaches a gate that
// listens on the given comma-separated addresses (AUTH_EXTAUTHZ_LISTEN): a unix
// socket if there is one, else the first address, loopback standing in for a
// wildcard.
func GateAddress(listen string) (string, error) {
	addrs := strings.Split(listen, ",")
	for i := range addrs {
		addrs[i] = strings.TrimSpace(addrs[i])
		if strings.HasPrefix(addrs[i], unixScheme) {
			_, err := parseEndpoint(addrs[i])
			return addrs[i], err
		}
	}
	host, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return "", fmt.Errorf("%q: use host:port or unix:///path", addrs[0])
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	addr := net.JoinHostPort(host, port)
	_, err = parseEndpoint(addr)
	return addr, err
}

// OptIns collects the ambiguities that at least one rule of the policy opts into.
func OptIns(p *policy.Policy) policy.PathFlags {
	var flags policy.PathFlags
	for _, rule := range p.Rules() {
		flags |= rule.OptIns
	}
	return flags
}
