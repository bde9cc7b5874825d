package certfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestContentsSettleBeforeTheyAreTaken: a chain that is being written may be a whole
// pair long before it is the whole chain, so one look is not enough.
func TestContentsSettleBeforeTheyAreTaken(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write := func(serial int64) {
		t.Helper()
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
			if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1)
	f, err := Open(Config{Cert: cert, Key: key, Listener: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 { return f.current.Load().Certificates[0].Leaf.SerialNumber.Int64() }
	for next := int64(2); next < 5; next++ {
		write(next)
		f.look()
		if serial() != 1 {
			t.Fatalf("pair %d was taken at the first look", serial())
		}
	}
	f.look()
	if serial() != 4 {
		t.Errorf("pair %d is in force after a second look at pair 4", serial())
	}
	write(5)
	f.look()
	write(6)
	f.look()
	f.look()
	if serial() != 6 {
		t.Errorf("pair %d is in force, want 6", serial())
	}
}
