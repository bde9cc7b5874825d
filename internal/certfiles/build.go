package certfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// build makes the configuration of one look's contents.
func (f *Files) build(c contents) (*tls.Config, error) {
	if c.err != nil {
		return nil, c.err
	}
	if _, err := certificates(c.cert); err != nil {
		return nil, fmt.Errorf("load the TLS certificate %s: %w", f.cfg.Cert, err)
	}
	pair, err := tls.X509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("load the TLS certificate %s and key %s: %w", f.cfg.Cert, f.cfg.Key, err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: f.cfg.NextProtos, Certificates: []tls.Certificate{pair}}
	if f.cfg.ClientCA == "" {
		return out, nil
	}
	authorities, err := certificates(c.clientCA)
	if err != nil {
		return nil, fmt.Errorf("load the client authorities: %s: %w", f.cfg.ClientCA, err)
	}
	out.ClientCAs = x509.NewCertPool()
	for _, authority := range authorities {
		out.ClientCAs.AddCert(authority)
	}
	out.ClientAuth = tls.RequireAndVerifyClientCert
	// Tickets outlive a change of the files. Without them nobody resumes past an
	// authority that was taken out, or past the end of his certificate.
	out.SessionTicketsDisabled = true
	return out, nil
}

// certificates reads every certificate of a PEM file. A block that is cut off is an
// error: encoding/pem would leave it out in silence, and a chain that was still being
// written would lose its end. Private keys beside certificates, as some tools write
// them, are passed over.
func certificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	blocks := 0
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		blocks++
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	switch {
	case bytes.Count(text, []byte("-----BEGIN ")) > blocks:
		return nil, errors.New("a PEM block is cut off or broken")
	case len(out) == 0:
		return nil, errors.New("it holds no PEM certificate")
	}
	return out, nil
}
