package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// pkcs8 is one private key as openssl writes it.
func pkcs8(tb testing.TB, key any) string {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pemText("PRIVATE KEY", der)
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// sec1 is a private key on a curve in the older form.
func sec1(tb testing.TB, name string) string {
	tb.Helper()
	der, err := x509.MarshalECPrivateKey(testKeys()[name].(*ecdsa.PrivateKey))
	if err != nil {
		tb.Fatal(err)
	}
	return pemText("EC PRIVATE KEY", der)
}

func pkcs1(name string) string {
	return pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(testKeys()[name].(*rsa.PrivateKey)))
}

// ecParameters is what `openssl ecparam -genkey` writes before the key.
func ecParameters() string {
	return pemText("EC PARAMETERS", []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07})
}

func TestParsePrivateKeys(t *testing.T) {
	keys := testKeys()
	for name, try := range map[string]struct {
		text string
		want []string // key and algorithm
	}{
		"RSA in PKCS 8":            {pkcs8(t, keys["rsa"]), []string{"rsa RS256"}},
		"RSA in PKCS 1":            {pkcs1("rsa"), []string{"rsa RS256"}},
		"P-256 in PKCS 8":          {pkcs8(t, keys["p256"]), []string{"p256 ES256"}},
		"P-256 in SEC 1":           {sec1(t, "p256"), []string{"p256 ES256"}},
		"P-256 with its curve":     {ecParameters() + sec1(t, "p256"), []string{"p256 ES256"}},
		"Ed25519":                  {pkcs8(t, keys["ed"]), []string{"ed EdDSA"}},
		"no newline at the end":    {strings.TrimSpace(pkcs8(t, keys["ed"])), []string{"ed EdDSA"}},
		"CRLF, and lines between":  {strings.ReplaceAll("\n"+pkcs8(t, keys["ed"])+"\n\n"+pkcs1("rsa")+"\n", "\n", "\r\n"), []string{"ed EdDSA", "rsa RS256"}},
		"a list of every kind":     {pkcs1("rsa") + sec1(t, "p256") + pkcs8(t, keys["ed"]) + pkcs8(t, keys["rsa2"]), []string{"rsa RS256", "p256 ES256", "ed EdDSA", "rsa2 RS256"}},
		"the order of the list is": {pkcs8(t, keys["other256"]) + pkcs8(t, keys["p256"]), []string{"other256 ES256", "p256 ES256"}},
	} {
		got, err := ParsePrivateKeys([]byte(try.text))
		if err != nil || len(got) != len(try.want) {
			t.Errorf("%s: %v, %v", name, got, err)
			continue
		}
		for n, want := range try.want {
			key, alg, _ := strings.Cut(want, " ")
			public, err := newPublicKey(keys[key].Public())
			if err != nil {
				t.Fatal(err)
			}
			if got[n].Algorithm() != alg || got[n].KeyID() != public.KeyID || !bytes.Equal(got[n].Public().JWK, public.JWK) {
				t.Errorf("%s: key %d is %v, want %s %s", name, n+1, got[n], alg, public.KeyID)
			}
		}
	}
}

func TestPrivateKeysThatAreRefused(t *testing.T) {
	keys := testKeys()
	rsaOf := func(bits int) *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(keys["p256"].Public())
	if err != nil {
		t.Fatal(err)
	}
	ed := pkcs8(t, keys["ed"])
	damaged := strings.Replace(ed, "-----END PRIVATE KEY-----", "-----END PRIVATE", 1)
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("0123456789abcdef")}))
	many := ""
	for range MaxPrivateKeys + 1 {
		_, key, err := generateEd25519()
		if err != nil {
			t.Fatal(err)
		}
		many += pkcs8(t, key)
	}
	for name, try := range map[string]struct{ text, want string }{
		"nothing":                        {"", "it holds no private key"},
		"white space":                    {" \n\t", "it holds no private key"},
		"a word":                         {"hunter2", "it is no PEM"},
		"a path":                         {"/run/secrets/key.pem", "it is no PEM"},
		"base64 without a frame":         {strings.Split(ed, "\n")[1], "it is no PEM"},
		"the curve alone":                {ecParameters(), "it holds no private key"},
		"text before":                    {"Bag Attributes\n" + ed, "there is other text before PEM block 1"},
		"text between":                   {ed + "hunter2\n" + pkcs1("rsa"), "there is other text before PEM block 2"},
		"text after":                     {ed + "hunter2", "there is other text after PEM block 1"},
		"line ends as a backslash and n": {strings.ReplaceAll(strings.TrimSpace(ed), "\n", `\n`), "PEM block 1 is damaged: its lines are joined by a backslash and an n"},
		"cut off":                        {ed[:len(ed)-20], "PEM block 1 is damaged"},
		"the first of two is damaged":    {damaged + pkcs1("rsa"), "PEM block 1 is damaged"},
		"the second of two is damaged":   {pkcs1("rsa") + damaged + pkcs8(t, keys["p256"]), "PEM block 2 is damaged"},
		"a certificate":                  {pemText("CERTIFICATE", pkix), "PEM block 1: it is no private key"},
		"a public key":                   {pemText("PUBLIC KEY", pkix), "PEM block 1: it is no private key"},
		"a public key behind one":        {ed + pemText("PUBLIC KEY", pkix), "PEM block 2: it is no private key"},
		"a public key under the name":    {pemText("PRIVATE KEY", pkix), "PEM block 1: its content is malformed"},
		"junk under the name":            {pemText("PRIVATE KEY", []byte("junk")), "PEM block 1: its content is malformed"},
		"PKCS 1 under the other name":    {pemText("PRIVATE KEY", x509.MarshalPKCS1PrivateKey(keys["rsa"].(*rsa.PrivateKey))), "PEM block 1: its content is malformed"},
		"encrypted, PKCS 8":              {pemText("ENCRYPTED PRIVATE KEY", []byte("x")), "PEM block 1: it is encrypted"},
		"encrypted, PKCS 1":              {encrypted, "PEM block 1: it is encrypted"},
		"RSA of 1024 bits":               {pkcs8(t, rsaOf(1024)), "PEM block 1: an RSA key of 1024 bits: want 2048 to 8192"},
		"RSA of 2040 bits, the second":   {ed + pkcs8(t, rsaOf(2040)), "PEM block 2: an RSA key of 2040 bits: want 2048 to 8192"},
		"P-384":                          {pkcs8(t, keys["p384"]), "PEM block 1: an EC key on P-384: want P-256"},
		"P-521":                          {sec1(t, "p521"), "PEM block 1: an EC key on P-521: want P-256"},
		"X25519":                         {pkcs8(t, x25519), "PEM block 1: not a key for signatures"},
		"the same key twice":             {ed + pkcs1("rsa") + ed, "PEM block 3: the key comes twice"},
		"the same key in two forms":      {pkcs1("rsa") + pkcs8(t, keys["rsa"]), "PEM block 2: the key comes twice"},
		"more than sixteen":              {many, "more than 16 keys"},
	} {
		got, err := ParsePrivateKeys([]byte(try.text))
		if err == nil || got != nil || !strings.HasPrefix(err.Error(), try.want) {
			t.Errorf("%s: %v, %v; want %q", name, got, err, try.want)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes the text: %v", name, err)
		}
	}
}

func TestNewPrivateKeyRefusesForeignSigners(t *testing.T) {
	for name, signer := range map[string]crypto.Signer{"nil": nil, "P-384": testKeys()["p384"], "another type": otherSigner{testKeys()["p256"]}} {
		if key, err := NewPrivateKey(signer); err == nil || key != nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// otherSigner is a key that is held elsewhere.
type otherSigner struct{ crypto.Signer }

// Nothing that a private key can be turned into shows it.
func TestPrivateKeysAreNeverShown(t *testing.T) {
	keys, err := ParsePrivateKeys([]byte(pkcs1("rsa") + sec1(t, "p256") + pkcs8(t, testKeys()["ed"])))
	if err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t, IssuerConfig{Algorithm: "RS256", Keys: keys})
	var shown bytes.Buffer
	log, text := slog.New(slog.NewJSONHandler(&shown, nil)), slog.New(slog.NewTextHandler(&shown, nil))
	for _, key := range keys {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&shown, verb, key)
			fmt.Fprintf(&shown, verb, *key)
			fmt.Fprintf(&shown, verb, []*PrivateKey{key})
			fmt.Fprintf(&shown, verb, struct{ key PrivateKey }{*key})
			fmt.Fprintf(&shown, verb, struct{ Key *PrivateKey }{key})
		}
		encoded, err := json.Marshal(map[string]any{"pointer": key, "value": *key})
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(encoded)
		log.Info("x", "key", key, "value", *key, "keys", keys)
		text.Info("x", "key", key, "value", *key, "keys", keys)
	}
	fmt.Fprintf(&shown, "%v %+v %#v %s", issuer, issuer, issuer, issuer.signer.Load().keyID)
	if !strings.Contains(shown.String(), "the ES256 key "+keys[1].KeyID()) {
		t.Error("a key does not say which it is")
	}
	rsaKey := testKeys()["rsa"].(*rsa.PrivateKey)
	ecBytes, err := testKeys()["p256"].(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	edSeed := fmt.Sprint(testKeys()["ed"])[1:30] // decimal, as %v would print it
	secrets := [][]byte{rsaKey.D.Bytes(), rsaKey.Primes[0].Bytes(), ecBytes}
	for _, secret := range secrets {
		for _, form := range []string{hex.EncodeToString(secret[:8]), base64.RawURLEncoding.EncodeToString(secret[:9]), base64.StdEncoding.EncodeToString(secret[:9]), strings.Trim(fmt.Sprint(secret[:8]), "[]")} {
			if strings.Contains(strings.ToLower(shown.String()), strings.ToLower(form)) {
				t.Errorf("%q is shown", form)
			}
		}
	}
	for _, form := range []string{edSeed, rsaKey.D.String()[:12], "PRIVATE"} {
		if strings.Contains(shown.String(), form) {
			t.Errorf("%q is shown", form)
		}
	}
}
