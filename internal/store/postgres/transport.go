package postgres

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Transport is how the connections of a URL go over the network. Unix sockets,
// loopback addresses and the name localhost are of this machine and do not count;
// no other name is resolved.
type Transport struct {
	// Mode is the sslmode in force where Plaintext has a host: disable, allow or
	// prefer, else "".
	Mode string
	// Plaintext are the remote hosts to which a connection may go without TLS.
	Plaintext []string
	// Unverified are the remote hosts whose certificate nobody looks at.
	Unverified []string
	// AnyAuthority are the remote hosts whose certificate may be of any authority
	// that the system trusts, and for any name.
	AnyAuthority []string
}

// Allowance is something unsafe that the caller answers for.
type Allowance int

// AllowPlaintext lets connections go to other machines without TLS.
const AllowPlaintext Allowance = 1

// InspectTransport tells how a URL's connections would go: by what the driver
// makes of it, after the environment (PGHOST, PGSSLMODE and the like), service
// files and defaults, since that is what will be dialed. It connects to nothing.
func InspectTransport(url string) (Transport, error) {
	cfg, err := readURL(url)
	if err != nil {
		return Transport{}, err
	}
	return transportOf(cfg.ConnConfig), nil
}

// PlaintextError says that a connection may cross the network without TLS.
type PlaintextError struct {
	Mode  string // the sslmode in force
	Hosts []string
}

// Error says what is wrong and the mend.
func (e *PlaintextError) Error() string {
	mode := "sslmode=" + e.Mode
	if e.Mode == "prefer" {
		mode += " (the default where none is given)"
	}
	return fmt.Sprintf("%s lets connections to %s go without TLS, so that others on the network can read and change them: set sslmode=verify-full and sslrootcert",
		mode, strings.Join(e.Hosts, ", "))
}

// Refusal is a *PlaintextError, or nil where no connection goes without TLS.
func (t Transport) Refusal() error {
	if len(t.Plaintext) == 0 {
		return nil
	}
	return &PlaintextError{Mode: t.Mode, Hosts: t.Plaintext}
}

// Warnings are what should be mended and does not stop a start, a sentence each.
func (t Transport) Warnings() []string {
	var out []string
	if refusal := t.Refusal(); refusal != nil {
		out = append(out, refusal.Error())
	}
	if len(t.Unverified) > 0 {
		out = append(out, fmt.Sprintf("sslmode=require does not verify who %s is, so that whoever is in between can pose as the database: set sslmode=verify-full and sslrootcert",
			strings.Join(t.Unverified, ", ")))
	}
	if len(t.AnyAuthority) > 0 {
		out = append(out, fmt.Sprintf("sslmode=verify-ca without sslrootcert takes any certificate of a public authority for %s: name your own authority's file with sslrootcert, or set sslmode=verify-full",
			strings.Join(t.AnyAuthority, ", ")))
	}
	return out
}

func transportOf(c *pgx.ConnConfig) Transport {
	attempts := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	var t Transport
	var encrypted, first []bool // of the attempts over TCP; first without TLS
	for _, a := range attempts {
		if network, _ := pgconn.NetworkAddress(a.Host, a.Port); network == "unix" {
			continue
		}
		first = append(first, a.TLSConfig == nil)
		if a.TLSConfig != nil {
			encrypted = append(encrypted, true)
		}
		if loopbackHost(a.Host) {
			continue
		}
		switch {
		case a.TLSConfig == nil:
			t.Plaintext = addHost(t.Plaintext, a.Host)
		case !verifies(a.TLSConfig):
			t.Unverified = addHost(t.Unverified, a.Host)
		case a.TLSConfig.InsecureSkipVerify && a.TLSConfig.RootCAs == nil:
			t.AnyAuthority = addHost(t.AnyAuthority, a.Host)
		}
	}
	if len(t.Plaintext) > 0 {
		t.Unverified = nil // no news where there may be no TLS at all
		switch {           // one mode holds for every host
		case len(encrypted) == 0:
			t.Mode = "disable"
		case first[0]:
			t.Mode = "allow"
		default:
			t.Mode = "prefer"
		}
	}
	return t
}

// verifies reports whether somebody looks at the server's certificate. verify-ca
// has a function of its own for that.
func verifies(c *tls.Config) bool { return !c.InsecureSkipVerify || c.VerifyPeerCertificate != nil }

func addHost(hosts []string, host string) []string {
	if slices.Contains(hosts, host) {
		return hosts
	}
	return append(hosts, host)
}

// loopbackHost reports whether the host is surely of this machine.
func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// errHostaddr stands for a parameter that the driver does not know: it would dial
// the host, and send the rest to the server.
var errHostaddr = errors.New("database URL: hostaddr is not supported: give the address as the host, with sslmode=verify-full if the server's certificate names it")
