package postgres

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// explainTLS puts the mend before the words of a failed handshake. Any other error
// comes back as it is.
func explainTLS(err error) error {
	if err == nil {
		return nil
	}
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &host):
		return fmt.Errorf("the database's certificate is not for the host that the URL names: connect by a name in the certificate, or have one issued for this name: %w", err)
	case errors.As(err, &authority):
		return fmt.Errorf("the database's certificate is of an authority that is not trusted: name the authority's file with sslrootcert: %w", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the database's certificate has expired, or is not valid yet by this machine's clock: renew it: %w", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("the database's certificate is not valid: %w", err)
	case strings.Contains(err.Error(), "server refused TLS connection"): // the driver has no type for it
		return fmt.Errorf("the database server has no TLS: switch it on there (ssl = on, with a certificate): %w", err)
	}
	return err
}
