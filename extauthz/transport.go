package extauthz

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"portcullis/internal/certfiles"
)

// TLS names the files of a server's TLS. The zero TLS is none. Changed files are
// taken while the server runs.
type TLS struct {
	CertFile string // PEM, the leaf first
	KeyFile  string // PEM
	// ClientCAFile holds the PEM certificates of the authorities that sign clients.
	// Where it is set, only a client with a certificate of theirs is served.
	ClientCAFile string
	// Every is how often the files are looked at; 0 is 2 s.
	Every time.Duration
}

// open reads the files. It returns nil where no TLS is asked for.
func (t TLS) open(cfg ServerConfig) (*certfiles.Files, error) {
	switch {
	case t == TLS{}:
		return nil, nil
	case t.CertFile == "" || t.KeyFile == "":
		return nil, errors.New("TLS needs both a certificate (AUTH_EXTAUTHZ_TLS_CERT) and its key (AUTH_EXTAUTHZ_TLS_KEY)")
	}
	return certfiles.Open(certfiles.Config{
		Cert: t.CertFile, Key: t.KeyFile, ClientCA: t.ClientCAFile, NextProtos: []string{"h2"},
		Listener: "extauthz", Every: t.Every, Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
}

// mixedCredentials speaks TLS on TCP connections and nothing on unix sockets,
// whose guard is the file's mode.
type mixedCredentials struct {
	credentials.TransportCredentials // TLS
	plain                            credentials.TransportCredentials
}

// newCredentials makes the server's credentials; cfg may be nil.
func newCredentials(cfg *tls.Config) credentials.TransportCredentials {
	if cfg == nil {
		return insecure.NewCredentials()
	}
	return &mixedCredentials{TransportCredentials: credentials.NewTLS(cfg), plain: insecure.NewCredentials()}
}

// ServerHandshake picks by the connection's own kind.
func (m *mixedCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if conn.LocalAddr().Network() == "unix" {
		return m.plain.ServerHandshake(conn)
	}
	return m.TransportCredentials.ServerHandshake(conn)
}

// ClientHandshake is not for servers.
func (m *mixedCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials cannot dial")
}

// Clone copies the credentials.
func (m *mixedCredentials) Clone() credentials.TransportCredentials {
	return &mixedCredentials{TransportCredentials: m.TransportCredentials.Clone(), plain: m.plain.Clone()}
}
