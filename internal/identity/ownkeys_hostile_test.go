package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"hash"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// ownSigned signs a header and a good payload with one of the test's keys.
func ownSigned(method jwt.SigningMethod, key, header string, changes ...any) string {
	claims := map[string]any{}
	for n := 0; n < len(changes); n += 2 {
		claims[changes[n].(string)] = changes[n+1]
	}
	return outsideSigned(method, key, header, object(claims))
}

// ownKid is the id of one of the test's keys.
func ownKid(tb testing.TB, name string) string { return ownKeyOf(tb, name).KeyID() }

// hostileOwnSetup has the secret beside the keys, which is where confusion would pay;
// "other256" has expired, "rsa2" has never been published.
func hostileOwnSetup(tb testing.TB, change func(*VerifierConfig)) *ownSetup {
	s := newOwnSetup(tb, change, "p256", "rsa", "ed")
	expired := ownKeyOf(tb, "other256").Public()
	expired.Expires = noon.UnixNano()
	s.set(tb, ownKeyOf(tb, "p256").Public(), ownKeyOf(tb, "rsa").Public(), ownKeyOf(tb, "ed").Public(), expired)
	return s
}

// ownHostile is every asymmetric token in our own name that must not be accepted. The
// keys are those of hostileOwnSetup.
func ownHostile(t testing.TB) map[string]struct {
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
		signature = "the signature is not ours"
		unknown   = "`kid` names no key of ours"
		unfit     = "`kid` names a key that is not for this `alg`"
		own       = "brings its own key"
	)
	es, rs, ed := jwt.SigningMethodES256, jwt.SigningMethodRS256, jwt.SigningMethodEdDSA
	e, r, d := ownKid(t, "p256"), ownKid(t, "rsa"), ownKid(t, "ed")
	invalid := func(token, detail string) refusal { return refusal{token, policy.ReasonInvalidToken, detail} }
	header := func(h, detail string) refusal { return invalid(ownSigned(es, "p256", h), detail) }
	claim := func(detail string, changes ...any) refusal {
		return invalid(ownSigned(es, "p256", withKid("ES256", e), changes...), detail)
	}
	member := func(name, value string) string {
		return `{"alg":"ES256","kid":"` + e + `","` + name + `":` + value + `}`
	}
	encode := base64.RawURLEncoding.EncodeToString
	good := ownSigned(es, "p256", withKid("ES256", e))
	parts := strings.Split(good, ".")
	goodRSA := ownSigned(rs, "rsa", withKid("RS256", r))
	goodEd := ownSigned(ed, "ed", withKid("EdDSA", d))
	// resigned is a good token with other bytes for a signature.
	resigned := func(token string, sig []byte) string {
		return token[:strings.LastIndexByte(token, '.')+1] + encode(sig)
	}
	sigOf := func(token string) []byte { return []byte(decode(t, token[strings.LastIndexByte(token, '.')+1:])) }
	ecSig, rsaSig, edSig := sigOf(good), sigOf(goodRSA), sigOf(goodEd)
	der := append([]byte{0x30, 0x44, 2, 0x20}, append(append(slices.Clone(ecSig[:32]), 2, 0x20), ecSig[32:]...)...)
	order := testOrder()

	// An Ed25519 signature with the order added to S says the same to a careless verifier.
	edOrder, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	littleS := slices.Clone(edSig[32:])
	slices.Reverse(littleS)
	bigS := new(big.Int).Add(new(big.Int).SetBytes(littleS), edOrder).FillBytes(make([]byte, 32))
	slices.Reverse(bigS)
	// So does an RSA signature with the modulus added, where it has room.
	public := testKeys()["rsa"].Public().(*rsa.PublicKey)
	rsaPlus := new(big.Int).Add(new(big.Int).SetBytes(rsaSig), public.N)

	out := map[string]refusal{
		// The algorithm is the key's, never the token's.
		"none, unsigned":               invalid(b64(withKid("none", e))+"."+parts[1]+".", "not three segments"),
		"none, signed":                 header(withKid("none", e), alg),
		"None":                         header(withKid("None", e), alg),
		"alg missing":                  header(`{"kid":"`+e+`"}`, "`alg` is missing"),
		"alg null":                     header(`{"alg":null,"kid":"`+e+`"}`, alg),
		"alg a list":                   header(`{"alg":["ES256"],"kid":"`+e+`"}`, alg),
		"alg twice":                    header(`{"alg":"none","alg":"ES256","kid":"`+e+`"}`, "a JSON key comes twice"),
		"alg es256":                    header(withKid("es256", e), alg),
		"ALG beside alg":               header(`{"alg":"ES256","ALG":"none","kid":"`+e+`"}`, "`alg` in another case"),
		"ES384":                        invalid(ownSigned(jwt.SigningMethodES384, "p384", withKid("ES384", e)), alg),
		"ES256K":                       header(withKid("ES256K", e), alg),
		"RS384 with the RSA key":       invalid(ownSigned(jwt.SigningMethodRS384, "rsa", withKid("RS384", r)), alg),
		"RS512 with the RSA key":       invalid(ownSigned(jwt.SigningMethodRS512, "rsa", withKid("RS512", r)), alg),
		"PS256 with the RSA key":       invalid(ownSigned(jwt.SigningMethodPS256, "rsa", withKid("PS256", r)), alg),
		"Ed25519 as a word":            invalid(ownSigned(ed, "ed", withKid("Ed25519", d)), alg),
		"ES256 with the RSA key's id":  header(withKid("ES256", r), unfit),
		"ES256 with Ed25519's id":      header(withKid("ES256", d), unfit),
		"RS256 with the EC key's id":   invalid(ownSigned(rs, "rsa", withKid("RS256", e)), unfit),
		"EdDSA with the EC key's id":   invalid(ownSigned(ed, "ed", withKid("EdDSA", e)), unfit),
		"RS256 over a PS256 signature": invalid(ownSigned(jwt.SigningMethodPS256, "rsa", withKid("RS256", r)), signature),
		"RS256 over a SHA-512 one":     invalid(ownSigned(jwt.SigningMethodRS512, "rsa", withKid("RS256", r)), signature),
		"ES256 over an Ed25519 one":    invalid(ownSigned(ed, "ed", withKid("ES256", e)), signature),
		"EdDSA over an ES256 one":      invalid(ownSigned(es, "p256", withKid("EdDSA", d)), signature),
		"the secret under ES256":       invalid(sign(withKid("ES256", e), object(nil), sha256.New, testSecret), signature),
		"the secret under RS256":       invalid(sign(withKid("RS256", r), object(nil), sha256.New, testSecret), signature),
		"the secret under EdDSA":       invalid(sign(withKid("EdDSA", d), object(nil), sha512.New, testSecret), signature),
		// Other keys.
		"another key of the curve":       invalid(ownSigned(es, "other256", withKid("ES256", e)), signature),
		"a key on P-384 under ES256":     invalid(ownSigned(jwt.SigningMethodES384, "p384", withKid("ES256", e)), signature),
		"a key on P-521 under ES256":     invalid(ownSigned(jwt.SigningMethodES512, "p521", withKid("ES256", e)), signature),
		"another RSA key":                invalid(ownSigned(rs, "rsa2", withKid("RS256", r)), signature),
		"a key that was never published": invalid(ownSigned(rs, "rsa2", withKid("RS256", ownKid(t, "rsa2"))), unknown),
		"a key that has expired":         invalid(ownSigned(es, "other256", withKid("ES256", ownKid(t, "other256"))), "the key that `kid` names has expired"),
		"an expired key's id, ours":      invalid(ownSigned(es, "p256", withKid("ES256", ownKid(t, "other256"))), "the key that `kid` names has expired"),
		// The kid.
		"no kid":                     header(`{"alg":"ES256"}`, "no `kid`"),
		"kid empty":                  header(withKid("ES256", ""), "no `kid`"),
		"kid in another case":        header(withKid("ES256", swapCase(e)), unknown),
		"kid with padding":           header(withKid("ES256", e+"="), unknown),
		"kid in the other alphabet":  header(withKid("ES256", strings.NewReplacer("-", "+", "_", "/").Replace(e)+"+/"), unknown),
		"kid with a space":           header(withKid("ES256", e+" "), unknown),
		"kid with a zero byte":       header(withKid("ES256", e+`\u0000`), unknown),
		"kid cut short":              header(withKid("ES256", e[:42]), unknown),
		"kid of the thumbprint, hex": header(withKid("ES256", strings.Repeat("0", 64)), unknown),
		"kid a path":                 header(withKid("ES256", "../../../../dev/null"), unknown),
		"kid a URL":                  header(withKid("ES256", "http://127.0.0.1:1/keys"), unknown),
		"kid SQL":                    header(withKid("ES256", "x' UNION SELECT 1 --"), unknown),
		"kid a command":              header(withKid("ES256", "x|id"), unknown),
		"kid of 257 bytes":           header(withKid("ES256", strings.Repeat("k", 257)), "`kid` is not a string of at most 256"),
		"kid a number":               header(`{"alg":"ES256","kid":0}`, "`kid` is not a string"),
		"kid null":                   header(`{"alg":"ES256","kid":null}`, "`kid` is not a string"),
		"kid a list":                 header(`{"alg":"ES256","kid":["`+e+`"]}`, "`kid` is not a string"),
		"kid twice":                  header(`{"alg":"ES256","kid":"x","kid":"`+e+`"}`, "a JSON key comes twice"),
		"KID":                        header(`{"alg":"ES256","KID":"`+e+`"}`, "`kid` in another case"),
		// Keys that a token brings.
		"jwk, and it signed":     invalid(ownSigned(es, "other256", `{"alg":"ES256","kid":"`+e+`","jwk":`+string(jsonOf(t, jwk(testKeys()["other256"], nil)))+`}`), own),
		"jwk of our own key":     header(member("jwk", string(ownKeyOf(t, "p256").Public().JWK)), own),
		"jwk with a private key": header(member("jwk", `{"kty":"oct","k":"AAAA"}`), own),
		"jku":                    header(member("jku", `"https://evil.example/keys"`), own),
		"jku of our own":         header(member("jku", `"https://gate/.well-known/jwks.json"`), own),
		"x5u":                    header(member("x5u", `"https://evil.example/c"`), own),
		"x5c":                    header(member("x5c", `["AAAA"]`), own),
		"x5t":                    header(member("x5t", `"AAAA"`), own),
		"x5t#S256":               header(member("x5t#S256", `"AAAA"`), own),
		"crit":                   header(member("crit", `["exp"],"exp":9000000000`), "`crit`"),
		"b64 false":              header(member("b64", `false`), "`b64`"),
		"enc":                    header(member("enc", `"A256GCM"`), "`enc`"),
		"typ of an ID token":     header(member("typ", `"id+jwt"`), "`typ`"),
		// ECDSA and its edges.
		"ECDSA zeros":              invalid(resigned(good, make([]byte, 64)), signature),
		"ECDSA r is zero":          invalid(resigned(good, append(make([]byte, 32), ecSig[32:]...)), signature),
		"ECDSA s is zero":          invalid(resigned(good, append(slices.Clone(ecSig[:32]), make([]byte, 32)...)), signature),
		"ECDSA r and s the order":  invalid(resigned(good, append(slices.Clone(order), order...)), signature),
		"ECDSA all ones":           invalid(resigned(good, bytes.Repeat([]byte{0xff}, 64)), signature),
		"ECDSA r and s swapped":    invalid(resigned(good, append(slices.Clone(ecSig[32:]), ecSig[:32]...)), signature),
		"ECDSA in DER":             invalid(resigned(good, der), signature),
		"ECDSA of 63 bytes":        invalid(resigned(good, ecSig[:63]), signature),
		"ECDSA of 65 bytes":        invalid(resigned(good, append(slices.Clone(ecSig), 0)), signature),
		"ECDSA of 65, zero before": invalid(resigned(good, append([]byte{0}, ecSig...)), signature),
		"ECDSA of 96, as on P-384": invalid(resigned(good, append(make([]byte, 32), ecSig...)), signature),
		"ECDSA cut to r":           invalid(resigned(good, ecSig[:32]), signature),
		"ECDSA a bit changed":      invalid(resigned(good, flip(ecSig, 40)), signature),
		"no signature":             invalid(parts[0]+"."+parts[1]+".", "not three segments"),
		"loose bits":               invalid(parts[0]+"."+parts[1]+"."+loosen(parts[2]), "malformed"),
		"a padded signature":       invalid(good+"==", "not three segments"),
		"cut off in the signature": invalid(good[:len(good)-6], signature),
		"cut off in the payload":   invalid(good[:strings.IndexByte(good, '.')+20], "not three segments"),
		"a signature of another":   invalid(parts[0]+"."+b64(payload("sub", "root"))+"."+parts[2], signature),
		"another header":           invalid(b64(`{"kid":"`+e+`","alg":"ES256"}`)+"."+parts[1]+"."+parts[2], signature),
		"RSA zeros":                invalid(resigned(goodRSA, make([]byte, 256)), signature),
		"RSA one":                  invalid(resigned(goodRSA, append(make([]byte, 255), 1)), signature),
		"RSA of 255 bytes":         invalid(resigned(goodRSA, rsaSig[:255]), signature),
		"RSA with a zero before":   invalid(resigned(goodRSA, append([]byte{0}, rsaSig...)), signature),
		"RSA plus the modulus":     invalid(resigned(goodRSA, rsaPlus.Bytes()), signature),
		"RSA the message unpadded": invalid(resigned(goodRSA, new(big.Int).Exp(new(big.Int).SetBytes(rsaSig), big.NewInt(65537), public.N).FillBytes(make([]byte, 256))), signature),
		"Ed25519 zeros":            invalid(resigned(goodEd, make([]byte, 64)), signature),
		"Ed25519 of 63 bytes":      invalid(resigned(goodEd, edSig[:63]), signature),
		"Ed25519 of 65 bytes":      invalid(resigned(goodEd, append(slices.Clone(edSig), 0)), signature),
		"Ed25519 S plus the order": invalid(resigned(goodEd, append(slices.Clone(edSig[:32]), bigS...)), signature),
		"Ed25519 R of small order": invalid(resigned(goodEd, append([]byte{1}, make([]byte, 63)...)), signature),
		"a JWE":                    invalid(good+".AAAA.AAAA", "not three segments"),
		"the unencoded payload":    invalid(parts[0]+"."+object(nil)+"."+parts[2], "not three segments"),
		"a thousand dots":          invalid(strings.Repeat(".", 1000), "not three segments"),
		"more than 8 KiB":          invalid(good+strings.Repeat("A", MaxTokenSize), "longer than 8 KiB"),
		// What stands in it, by our own key: the same as under the secret.
		"another iss":         claim("`iss` is not the configured issuer", "iss", "gate2"),
		"no iss":              claim("`iss` is not the configured issuer", "iss", nil),
		"another aud":         claim("`aud` does not name", "aud", "shop"),
		"no aud":              claim("`aud` does not name", "aud", nil),
		"no sub":              claim("`sub` is missing", "sub", nil),
		"no exp":              claim("`exp` is missing", "exp", nil),
		"Sub beside sub":      claim("`sub` in another case", "Sub", "root"),
		"kind unknown":        claim("`kind` has a wrong type", "kind", "root"),
		"tenant with a slash": claim("`tenant` has a wrong type", "tenant", "a/b"),
		"nbf in the future":   claim("lies in the future", "nbf", noon.Unix()+31),
		"iat in the future":   claim("lies in the future", "iat", noon.Unix()+31),
		"an ID token":         claim("`at_hash` marks an ID token", "at_hash", "x"),
		"bound by cnf":        claim("`cnf` binds", "cnf", map[string]any{"jkt": "x"}),
		"expired":             {ownSigned(es, "p256", withKid("ES256", e), "exp", noon.Unix()-30), policy.ReasonExpired, "`exp` has passed"},
	}

	// HMAC under what everybody may read: each public key in each of its spellings.
	for name, kid := range map[string]string{"rsa": r, "p256": e, "ed": d} {
		pkix, err := x509.MarshalPKIXPublicKey(testKeys()[name].Public())
		if err != nil {
			t.Fatal(err)
		}
		spellings := map[string][]byte{
			"DER": pkix, "PEM": []byte(pemText("PUBLIC KEY", pkix)), "PEM, no newline": bytes.TrimSpace([]byte(pemText("PUBLIC KEY", pkix))),
			"JWK": ownKeyOf(t, name).Public().JWK, "kid": []byte(kid), "base64": []byte(base64.StdEncoding.EncodeToString(pkix)),
		}
		switch public := testKeys()[name].Public().(type) {
		case *rsa.PublicKey:
			spellings["modulus"], spellings["PKCS 1"] = public.N.Bytes(), x509.MarshalPKCS1PublicKey(public)
		case ed25519.PublicKey:
			spellings["bytes"] = public
		}
		for spelling, secret := range spellings {
			out["HS256 with the "+spelling+" of "+name] = invalid(sign(withKid("HS256", kid), object(nil), sha256.New, secret), "")
			out["HS512 with the "+spelling+" of "+name] = invalid(sign(withKid("HS512", kid), object(nil), sha512.New, secret), alg)
			for method, newHash := range map[string]func() hash.Hash{"RS256": sha256.New, "ES256": sha256.New, "EdDSA": sha512.New} {
				out["an HMAC with the "+spelling+" of "+name+" under "+method] = invalid(sign(withKid(method, kid), object(nil), newHash, secret), "")
			}
		}
	}
	return out
}

func swapCase(s string) string {
	b := []byte(s)
	for n, c := range b {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b[n] = c ^ 0x20
		}
	}
	return string(b)
}

func flip(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}

func TestHostileOwnTokens(t *testing.T) {
	tokens := ownHostile(t)
	if len(tokens) < 100 {
		t.Fatalf("only %d", len(tokens))
	}
	for setup, change := range map[string]func(*VerifierConfig){
		"keys alone":           nil,
		"the secret unused":    func(c *VerifierConfig) { c.Secret = testSecret },
		"the secret beside":    func(c *VerifierConfig) { c.Secret, c.Algorithm = testSecret, "HS256" },
		"HS256, but no secret": func(c *VerifierConfig) { c.Algorithm = "HS256" },
	} {
		s := hostileOwnSetup(t, change)
		accepted := func() {
			mustAccept(t, s.verifiers, ownSigned(jwt.SigningMethodES256, "p256", withKid("ES256", ownKid(t, "p256"))))
			mustAccept(t, s.verifiers, ownSigned(jwt.SigningMethodRS256, "rsa", withKid("RS256", ownKid(t, "rsa"))))
			mustAccept(t, s.verifiers, ownSigned(jwt.SigningMethodEdDSA, "ed", withKid("EdDSA", ownKid(t, "ed"))))
		}
		accepted()
		for name, try := range tokens {
			t.Run(setup+"/"+name, func(t *testing.T) { mustRefuse(t, s.verifiers, try.token, try.reason, try.detail) })
		}
		accepted()
	}
}

// Whoever has an ECDSA signature can make its twin, which verifies too: JWS asks for no
// particular one. It is no second token: what denies one denies the other.
func TestTheTwinOfASignatureIsTheSameToken(t *testing.T) {
	s := newOwnSetup(t, nil, "p256")
	text := s.issue(t)
	dot := strings.LastIndexByte(text, '.') + 1
	signature := []byte(decode(t, text[dot:]))
	order := new(big.Int).SetBytes(testOrder())
	twin := append(slices.Clone(signature[:32]), new(big.Int).Sub(order, new(big.Int).SetBytes(signature[32:])).FillBytes(make([]byte, 32))...)
	one, other := mustAccept(t, s.verifiers, text), mustAccept(t, s.verifiers, text[:dot]+base64.RawURLEncoding.EncodeToString(twin))
	if one.ID == "" || DenyTokenDigest(1, one.Issuer, one.ID) != DenyTokenDigest(1, other.Issuer, other.ID) ||
		DenyKeyDigest(one.Issuer, one.KeyID) != DenyKeyDigest(other.Issuer, other.KeyID) || one.Principal != other.Principal {
		t.Errorf("%+v and %+v", one, other)
	}
}

// An `iat` is told apart from none even where it rounds to 0, and an outside token that
// names no key is known by the key that verified it: neither dodges the deny-list.
func TestTokensCarryWhatADenyListAsks(t *testing.T) {
	s := newOwnSetup(t, nil, "ed")
	kid := ownKid(t, "ed")
	for value, want := range map[string]bool{"": false, "1e-12": true, "1": true} {
		changes := []any{"iat", nil}
		if value != "" {
			changes = []any{"iat", json.RawMessage(value)}
		}
		token := mustAccept(t, s.verifiers, ownSigned(jwt.SigningMethodEdDSA, "ed", withKid("EdDSA", kid), changes...))
		if token.HasIssuedAt != want || token.KeyID != kid {
			t.Errorf("iat %s: %+v", value, token)
		}
	}
	p := newProvider(t, named("p256", "e"))
	v, _, _ := newVerifiers(t, nil, p.entry())
	mustAccept(t, v, outsideToken())
	token := mustAccept(t, v, outsideHeader(`{"alg":"ES256"}`))
	if token.KeyID != "e" || !token.HasIssuedAt {
		t.Errorf("without a kid: %+v", token)
	}
}

func FuzzOwnVerify(f *testing.F) {
	for _, try := range ownHostile(f) {
		f.Add(try.token)
	}
	var good []string
	for alg, name := range map[string]string{"RS256": "rsa", "ES256": "p256", "EdDSA": "ed"} {
		token := ownSigned(jwt.GetSigningMethod(alg), name, withKid(alg, ownKid(f, name)))
		good = append(good, token[:strings.LastIndexByte(token, '.')])
		f.Add(token)
	}
	s := hostileOwnSetup(f, func(c *VerifierConfig) { c.Secret = testSecret })
	// Without a private key nothing may be accepted but what the keys signed.
	f.Fuzz(func(t *testing.T, token string) {
		got, reason := s.verifiers.Verify(token)
		if (got != nil) != (reason == policy.ReasonOK) {
			t.Fatalf("%v with %v", got, reason)
		}
		if got != nil && !slices.Contains(good, token[:strings.LastIndexByte(token, '.')]) {
			t.Fatalf("accepted: %q", token)
		}
		s.verifiers.Inspect(token)
	})
}

// FuzzPublicKey holds every key that is taken to what it says of itself.
func FuzzPublicKey(f *testing.F) {
	for _, name := range []string{"rsa", "p256", "ed"} {
		f.Add(ownKeyOf(f, name).Public().JWK)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublicKey(text)
		if err != nil {
			return
		}
		again, err := ParsePublicKey(key.JWK)
		if err != nil || again.KeyID != key.KeyID || !bytes.Equal(again.JWK, key.JWK) || !slices.Contains(OwnAlgorithms(), key.Algorithm) || len(key.KeyID) != 43 {
			t.Fatalf("%q is %+v, then %+v, %v", text, key, again, err)
		}
	})
}

// FuzzPrivateKeys throws arbitrary text at the reader of private keys.
func FuzzPrivateKeys(f *testing.F) {
	f.Add(pkcs8(f, testKeys()["ed"]) + sec1(f, "p256"))
	f.Add(ecParameters())
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParsePrivateKeys([]byte(text))
		if (len(keys) > 0) == (err != nil) {
			t.Fatal(keys, err)
		}
		for _, k := range keys {
			if _, err := ParsePublicKey(k.Public().JWK); err != nil {
				t.Fatal(err)
			}
		}
	})
}
