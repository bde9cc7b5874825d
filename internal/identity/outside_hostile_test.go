package identity

import (
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// outsideHostile is every token of an outside issuer that must not be accepted,
// with the reason that it gets and a part of what an operator reads. The issuer
// publishes allKeys and may sign with every algorithm but PS512.
func outsideHostile(t testing.TB) map[string]struct {
	token  string
	reason policy.Reason
	detail string
} {
	type refusal = struct {
		token  string
		reason policy.Reason
		detail string
	}
	const (
		alg       = "`alg` is not the configured"
		signature = "the signature is not the issuer's"
		unknown   = "`kid` names no key"
		unfit     = "`kid` names a key that is not for this `alg`"
	)
	es := jwt.SigningMethodES256
	good := outsideToken()
	parts := strings.Split(good, ".")
	invalid := func(token, detail string) refusal { return refusal{token, policy.ReasonInvalidToken, detail} }
	header := func(h, detail string) refusal { return invalid(outsideHeader(h), detail) }
	claim := func(name string, value any) refusal {
		return invalid(outsideToken(name, value), "`"+name+"` has a wrong type")
	}
	member := func(name, value string) string { return `{"alg":"ES256","kid":"e",` + `"` + name + `":` + value + `}` }
	withSignature := func(b []byte) string {
		return parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(b)
	}

	// HMAC under what everybody knows: the RSA key in each of its spellings.
	public := testKeys()["rsa"].Public().(*rsa.PublicKey)
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	hs := func(algorithm, kid string, secret []byte) string {
		return sign(withKid(algorithm, kid), outsideObject(), sha256.New, secret)
	}
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := json.Marshal(jwk(own, nil))
	if err != nil {
		t.Fatal(err)
	}
	text := b64(`{"alg":"RS256","kid":"r","jwk":`+string(embedded)+`}`) + "." + b64(outsideObject())
	sig, err := jwt.SigningMethodRS256.Sign(text, own)
	if err != nil {
		t.Fatal(err)
	}
	embeddedToken := text + "." + base64.RawURLEncoding.EncodeToString(sig)

	good256, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	der := append([]byte{0x30, 0x44, 2, 0x20}, append(append(append([]byte{}, good256[:32]...), 2, 0x20), good256[32:]...)...)
	order := testOrder()

	return map[string]refusal{
		// RFC 8725, 2.1 and 3.1: the algorithm is the policy's, never the token's.
		"none, no signature":              invalid(b64(withKid("none", "e"))+"."+parts[1]+".", "not three segments"),
		"none, a signature":               header(withKid("none", "e"), alg),
		"None":                            header(withKid("None", "e"), alg),
		"nOnE":                            header(withKid("nOnE", "e"), alg),
		"alg empty":                       header(withKid("", "e"), alg),
		"alg missing":                     header(`{"kid":"e"}`, "`alg` is missing"),
		"alg null":                        header(`{"alg":null,"kid":"e"}`, alg),
		"alg a list":                      header(`{"alg":["ES256"],"kid":"e"}`, alg),
		"alg twice":                       header(`{"alg":"none","alg":"ES256","kid":"e"}`, "a JSON key comes twice"),
		"alg es256":                       header(withKid("es256", "e"), alg),
		"ALG":                             header(`{"ALG":"ES256","kid":"e"}`, "`alg` in another case"),
		"an algorithm not in the list":    invalid(outsideSigned(jwt.SigningMethodPS512, "rsa", withKid("PS512", "r"), outsideObject()), alg),
		"ES256K":                          header(withKid("ES256K", "e"), alg),
		"Ed25519 as a word":               header(withKid("Ed25519", "d"), alg),
		"HS256 with the RSA key, DER":     invalid(hs("HS256", "r", pkix), alg),
		"HS256 with the RSA key, PKCS #1": invalid(hs("HS256", "r", x509.MarshalPKCS1PublicKey(public)), alg),
		"HS256 with the RSA key, PEM":     invalid(hs("HS256", "r", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})), alg),
		"HS256 with the modulus":          invalid(hs("HS256", "r", public.N.Bytes()), alg),
		"HS256 with our own secret":       invalid(hs("HS256", "r", testSecret), alg),
		"HS256 with nothing":              invalid(hs("HS256", "r", nil), alg),
		"HMAC under the name RS256":       invalid(hs("RS256", "r", pkix), signature),
		"HMAC under the name EdDSA":       invalid(hs("EdDSA", "d", public.N.Bytes()), signature),
		// RFC 8725, 2.2 and 3.5: keys. A key belongs to one algorithm's family.
		"ES384 with the key of ES256":      invalid(outsideSigned(es, "p256", withKid("ES384", "e"), outsideObject()), unfit),
		"ES256 with the key of ES384":      invalid(outsideSigned(jwt.SigningMethodES384, "p384", withKid("ES256", "e384"), outsideObject()), unfit),
		"ES256 with the key of ES512":      invalid(outsideSigned(jwt.SigningMethodES512, "p521", withKid("ES256", "e521"), outsideObject()), unfit),
		"ES256 with the RSA key's id":      header(withKid("ES256", "r"), unfit),
		"RS256 with the EC key's id":       invalid(outsideSigned(jwt.SigningMethodRS256, "rsa", withKid("RS256", "e"), outsideObject()), unfit),
		"EdDSA with the EC key's id":       invalid(outsideSigned(jwt.SigningMethodEdDSA, "ed", withKid("EdDSA", "e"), outsideObject()), unfit),
		"PS256 over an RS256 signature":    invalid(outsideSigned(jwt.SigningMethodRS256, "rsa", withKid("PS256", "r"), outsideObject()), signature),
		"RS256 over a PS256 signature":     invalid(outsideSigned(jwt.SigningMethodPS256, "rsa", withKid("RS256", "r"), outsideObject()), signature),
		"RS512 over an RS256 signature":    invalid(outsideSigned(jwt.SigningMethodRS256, "rsa", withKid("RS512", "r"), outsideObject()), signature),
		"another key of the same curve":    invalid(outsideSigned(es, "other256", withKid("ES256", "e"), outsideObject()), signature),
		"another RSA key":                  invalid(outsideSigned(jwt.SigningMethodRS256, "rsa2", withKid("RS256", "r"), outsideObject()), signature),
		"a key for encryption":             invalid(outsideSigned(jwt.SigningMethodRS256, "rsa2", withKid("RS256", "enc"), outsideObject()), unknown),
		"no kid, and several would fit":    header(`{"alg":"ES256"}`, "not exactly one key"),
		"kid empty, and several would fit": header(withKid("ES256", ""), "not exactly one key"),
		"RS256 with a key pinned to ES256": invalid(outsideSigned(jwt.SigningMethodRS256, "rsa", withKid("RS256", "pinned"), outsideObject()), unfit),
		"RS512 with a key pinned to RS256": invalid(outsideSigned(jwt.SigningMethodRS512, "rsa2", withKid("RS512", "narrow"), outsideObject()), unfit),
		"a kid that is another issuer's":   header(withKid("ES256", "gate"), unknown),
		"a kid in another case":            header(withKid("ES256", "E"), unknown),
		"a kid that is a path":             header(withKid("ES256", "../../../../dev/null"), unknown),
		"a kid that is a URL":              header(withKid("ES256", "http://127.0.0.1:1/keys"), unknown),
		"a kid that is SQL":                header(withKid("ES256", "e' OR '1'='1"), unknown),
		"a kid that is a command":          header(withKid("ES256", "e|id"), unknown),
		"a kid with a zero byte":           header(withKid("ES256", `e\u0000`), unknown),
		"a kid with a space":               header(withKid("ES256", "e "), unknown),
		"a kid of 257 bytes":               header(withKid("ES256", strings.Repeat("e", 257)), "`kid` is not a string of at most 256"),
		"a kid that is a number":           header(`{"alg":"ES256","kid":0}`, "`kid` is not a string"),
		"a kid that is a list":             header(`{"alg":"ES256","kid":["e"]}`, "`kid` is not a string"),
		"a kid twice":                      header(`{"alg":"ES256","kid":"x","kid":"e"}`, "a JSON key comes twice"),
		// RFC 7515, 4.1: keys that a token brings.
		"an embedded jwk that signed it": invalid(embeddedToken, "`jwk` brings its own key"),
		"jku":                            header(member("jku", `"https://evil.example/keys"`), "`jku` brings its own key"),
		"jku of the issuer itself":       header(member("jku", `"https://id.example.com/keys"`), "`jku`"),
		"x5u":                            header(member("x5u", `"https://evil.example/c"`), "`x5u`"),
		"x5c":                            header(member("x5c", `["AAAA"]`), "`x5c`"),
		"x5t":                            header(member("x5t", `"AAAA"`), "`x5t`"),
		"x5t#S256":                       header(member("x5t#S256", `"AAAA"`), "`x5t#S256`"),
		// RFC 7515, 4.1.11 and RFC 7797.
		"crit of an extension":   header(member("crit", `["exp"],"exp":9000000000`), "`crit`"),
		"crit of nothing":        header(member("crit", `[]`), "`crit`"),
		"crit of b64":            header(member("crit", `["b64"],"b64":false`), "`crit`"),
		"b64 false, not in crit": header(member("b64", `false`), "`b64`"),
		"b64 true":               header(member("b64", `true`), "`b64`"),
		"an unencoded payload":   invalid(parts[0]+"."+outsideObject()+"."+parts[2], "not three segments"),
		// RFC 8725, 2.3 and 3.2: encryption is no proof.
		"a JWE":                       invalid(good+".AAAA.AAAA", "not three segments"),
		"enc":                         header(member("enc", `"A256GCM"`), "`enc`"),
		"zip, a bomb":                 header(member("zip", `"DEF"`), "`zip`"),
		"cty JWT":                     header(member("cty", `"JWT"`), "`cty`"),
		"p2c of billions, in a PBES2": header(`{"alg":"PBES2-HS256+A128KW","p2c":2147483647,"kid":"e"}`, alg),
		// RFC 8725, 2.4: ECDSA and its edges (CVE-2022-21449 and kin).
		"a psychic signature, zeros":    invalid(withSignature(make([]byte, 64)), signature),
		"r is zero":                     invalid(withSignature(append(make([]byte, 32), good256[32:]...)), signature),
		"s is zero":                     invalid(withSignature(append(append([]byte{}, good256[:32]...), make([]byte, 32)...)), signature),
		"r and s are the order":         invalid(withSignature(append(append([]byte{}, order...), order...)), signature),
		"r plus the order, all ones":    invalid(withSignature([]byte(strings.Repeat("\xff", 64))), signature),
		"the signature in DER":          invalid(withSignature(der), signature),
		"a signature of 63 bytes":       invalid(withSignature(good256[:63]), signature),
		"a signature of 65 bytes":       invalid(withSignature(append(append([]byte{}, good256...), 0)), signature),
		"an RSA signature of zeros":     invalid(b64(withKid("RS256", "r"))+"."+parts[1]+"."+base64.RawURLEncoding.EncodeToString(make([]byte, 256)), signature),
		"an RSA signature of one":       invalid(b64(withKid("RS256", "r"))+"."+parts[1]+"."+base64.RawURLEncoding.EncodeToString(append(make([]byte, 255), 1)), signature),
		"an Ed25519 signature of zeros": invalid(b64(withKid("EdDSA", "d"))+"."+parts[1]+"."+base64.RawURLEncoding.EncodeToString(make([]byte, 64)), signature),
		"an HMAC of the right length":   invalid(parts[0]+"."+parts[1]+"."+base64.RawURLEncoding.EncodeToString(twice(parts)), signature),
		// RFC 8725, 2.5 and 2.6: what the signature covers.
		"another payload":                 invalid(parts[0]+"."+b64(outsideObject("sub", "root"))+"."+parts[2], signature),
		"another header":                  invalid(b64(`{"kid":"e","alg":"ES256"}`)+"."+parts[1]+"."+parts[2], signature),
		"a payload that is no JSON":       invalid(parts[0]+"."+b64("alice")+"."+parts[2], "`alg`"), // no `iss`, so it is ours to refuse
		"loose bits in the signature":     invalid(parts[0]+"."+parts[1]+"."+loosen(parts[2]), "malformed"),
		"sub twice":                       invalid(outsidePayload(`{"iss":"https://id.example.com","sub":"root","sub":"alice","aud":"blog","exp":9000000000}`), "`alg`"),
		"iss twice":                       invalid(outsidePayload(`{"iss":"gate","iss":"https://id.example.com","sub":"alice","aud":"blog","exp":9000000000}`), "`alg`"),
		"Sub beside sub":                  invalid(outsideToken("Sub", "root"), "`sub` in another case"),
		"Tenant":                          invalid(outsideToken("Tenant", "acme"), "`tenant` in another case"),
		"more than 8 KiB":                 invalid(good+strings.Repeat("A", MaxTokenSize), "longer than 8 KiB"),
		"a thousand dots, CVE-2025-30204": invalid(strings.Repeat(".", 1000), "not three segments"),
		// RFC 8725, 3.8 and 3.9: issuer, subject, audience.
		"no aud":                   invalid(outsideToken("aud", nil), "`aud` names none"),
		"another aud":              invalid(outsideToken("aud", "bank"), "`aud` names none"),
		"aud empty":                invalid(outsideToken("aud", []string{}), "`aud` names none"),
		"aud in capitals":          invalid(outsideToken("aud", "BLOG"), "`aud` names none"),
		"aud an object":            claim("aud", map[string]any{"blog": true}),
		"no sub":                   invalid(outsideToken("sub", nil), "`sub`, which names the user, is missing"),
		"sub empty":                claim("sub", ""),
		"sub of 256 bytes":         claim("sub", strings.Repeat("a", 256)),
		"sub a number":             claim("sub", 7),
		"sub with a header in it":  claim("sub", "alice\r\nx-auth-roles: admin"),
		"sub beyond ASCII":         claim("sub", "alicé"),
		"sub with a space":         claim("sub", "alice smith"),
		"another tenant":           invalid(outsideToken("tenant", "acme"), "not the one that the policy pins"),
		"a tenant that is no text": claim("tenant", 1),
		// RFC 8725, 3.11 and 3.12: what kind of token it is.
		"typ of an ID token":    header(member("typ", `"id+jwt"`), "`typ`"),
		"typ of a logout token": header(member("typ", `"logout+jwt"`), "`typ`"),
		"typ of a DPoP proof":   header(member("typ", `"dpop+jwt"`), "`typ`"),
		"typ of a set":          header(member("typ", `"secevent+jwt"`), "`typ`"),
		"typ of a client's JWT": header(member("typ", `"client-authentication+jwt"`), "`typ`"),
		"payload typ ID":        claim("typ", "ID"),
		"payload typ Refresh":   claim("typ", "Refresh"),
		"at_hash":               invalid(outsideToken("at_hash", "x"), "`at_hash` marks an ID token"),
		"c_hash":                invalid(outsideToken("c_hash", "x"), "`c_hash` marks an ID token"),
		"bound to a key by cnf": invalid(outsideToken("cnf", map[string]any{"jkt": "x"}), "`cnf` binds"),
		// Times.
		"no exp":                   invalid(outsideToken("exp", nil), "`exp` is missing"),
		"exp a string":             claim("exp", "9000000000"),
		"exp in milliseconds":      claim("exp", noon.Add(time.Hour).UnixMilli()),
		"exp infinite":             invalid(outsideToken("exp", json.RawMessage("1e400")), "`exp`"),
		"expired":                  {outsideToken("exp", noon.Unix()-30), policy.ReasonExpired, "`exp` has passed"},
		"nbf in the future":        invalid(outsideToken("nbf", noon.Unix()+31), "lies in the future"),
		"iat in the future":        invalid(outsideToken("iat", noon.Unix()+31), "lies in the future"),
		"exp in ten years":         invalid(outsideToken("exp", noon.Unix()+10*365*86400), "max_token_age"),
		"exp in ten years, no iat": invalid(outsideToken("exp", noon.Unix()+10*365*86400, "iat", nil), "max_token_age"),
		"iat long ago":             invalid(outsideToken("iat", 1), "max_token_age"),
	}
}

// twice is an HMAC under the public key's bytes, as long as an ECDSA signature.
func twice(parts []string) []byte {
	mac := hmac.New(sha256.New, testOrder())
	mac.Write([]byte(parts[0] + "." + parts[1]))
	sum := mac.Sum(nil)
	return append(sum, sum...)
}

// testOrder is the order of P-256.
func testOrder() []byte {
	order := make([]byte, 32)
	elliptic.P256().Params().N.FillBytes(order)
	return order
}

func withoutPS512() []string {
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA"}
}

func hostileVerifiers(t testing.TB) *Verifiers {
	p := newProvider(t, allKeys()...)
	v, _, _ := newVerifiers(t, nil, p.entry(func(i *policy.Issuer) { i.Algorithms = withoutPS512() }))
	mustAccept(t, v, outsideToken()) // and so the keys are there
	return v
}

func TestHostileOutsideTokens(t *testing.T) {
	tokens := outsideHostile(t)
	if len(tokens) < 60 {
		t.Fatalf("only %d", len(tokens))
	}
	v := hostileVerifiers(t)
	for name, try := range tokens {
		t.Run(name, func(t *testing.T) { mustRefuse(t, v, try.token, try.reason, try.detail) })
	}
	mustAccept(t, v, outsideToken())
}

// FuzzOutsideVerify throws arbitrary bytes at a verifier with an outside issuer.
// Without a private key nothing may be accepted but the one good token.
func FuzzOutsideVerify(f *testing.F) {
	for _, try := range outsideHostile(f) {
		f.Add(try.token)
	}
	good := outsideToken()
	f.Add(good)
	v := hostileVerifiers(f)
	f.Fuzz(func(t *testing.T, token string) {
		got, reason := v.Verify(token)
		if (got != nil) != (reason == policy.ReasonOK) {
			t.Fatalf("%v with %v", got, reason)
		}
		if got != nil && token[:strings.LastIndexByte(token, '.')] != good[:strings.LastIndexByte(good, '.')] {
			t.Fatalf("accepted: %q", token)
		}
		v.Inspect(token)
	})
}

// FuzzKeySet throws arbitrary documents at the reader of key sets.
func FuzzKeySet(f *testing.F) {
	f.Add(keySetText(allKeys()...))
	f.Add(`{"keys":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		set, err := parseKeySet([]byte(text))
		if (set != nil) == (err != nil) {
			t.Fatal(set, err)
		}
		if set == nil {
			return
		}
		for _, k := range set.keys {
			if public, ok := k.public.(*rsa.PublicKey); ok && public.N.BitLen() < 2048 {
				t.Fatalf("took an RSA key of %d bits", public.N.BitLen())
			}
		}
	})
}
