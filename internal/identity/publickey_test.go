package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func generateEd25519() (ed25519.PublicKey, ed25519.PrivateKey, error) {
	return ed25519.GenerateKey(rand.Reader)
}

// RFC 7638, 3.1: an RSA key and its thumbprint.
func TestThumbprintOfRFC7638(t *testing.T) {
	const (
		n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W" +
			"-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyr" +
			"dkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
		print = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	)
	modulus, err := base64.RawURLEncoding.DecodeString(n)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537})
	if err != nil || key.KeyID != print || key.Algorithm != "RS256" {
		t.Fatalf("%v, %v", key, err)
	}
	want := `{"alg":"RS256","e":"AQAB","kid":"` + print + `","kty":"RSA","n":"` + n + `","use":"sig"}`
	if string(key.JWK) != want {
		t.Errorf("got  %s\nwant %s", key.JWK, want)
	}
}

// RFC 8037, A.1 to A.5: an Ed25519 key, its thumbprint, and a signature.
func TestVectorsOfRFC8037(t *testing.T) {
	const (
		d         = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
		x         = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
		print     = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
		input     = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
		signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	)
	seed, err := base64.RawURLEncoding.DecodeString(d)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewPrivateKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"alg":"EdDSA","crv":"Ed25519","kid":"` + print + `","kty":"OKP","use":"sig","x":"` + x + `"}`; string(key.Public().JWK) != want {
		t.Errorf("got  %s\nwant %s", key.Public().JWK, want)
	}
	s := key.asSigner()
	signed, err := s.method.Sign(input, s.key)
	if err != nil || base64.RawURLEncoding.EncodeToString(signed) != signature || s.keyID != print {
		t.Errorf("signed %x, %v", signed, err)
	}
	verify, _, err := parseOwnKey(key.Public().JWK)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.method.Verify(input, signed, verify.public); err != nil {
		t.Error(err)
	}
}

func TestParsePublicKey(t *testing.T) {
	for _, name := range []string{"rsa", "p256", "ed"} {
		key := ownKeyOf(t, name)
		got, err := ParsePublicKey(key.Public().JWK)
		if err != nil || got.KeyID != key.KeyID() || got.Algorithm != key.Algorithm() || got.NotBefore != 0 || got.Expires != 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		// White space and order are another spelling of the same; the result has the one.
		var m map[string]any
		if err := json.Unmarshal(key.Public().JWK, &m); err != nil {
			t.Fatal(err)
		}
		loose, err := json.MarshalIndent(m, " ", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParsePublicKey(loose); err != nil || string(got.JWK) != string(key.Public().JWK) {
			t.Errorf("%s: %s, %v", name, got.JWK, err)
		}
	}
}

func TestPublicKeysThatAreRefused(t *testing.T) {
	// changed is a key of ours with members changed; nil takes one out.
	changed := func(name string, changes map[string]any) string {
		var m map[string]any
		if err := json.Unmarshal(ownKeyOf(t, name).Public().JWK, &m); err != nil {
			t.Fatal(err)
		}
		maps.Copy(m, changes)
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	with := func(name, member string, value any) string { return changed(name, map[string]any{member: value}) }
	member := func(name, member string) string {
		var m map[string]string
		if err := json.Unmarshal(ownKeyOf(t, name).Public().JWK, &m); err != nil {
			t.Fatal(err)
		}
		return m[member]
	}
	b64 := base64.RawURLEncoding.EncodeToString
	weakRSA := func(n *big.Int, e string) string {
		return changed("rsa", map[string]any{"n": b64(n.Bytes()), "e": e})
	}
	modulus := testKeys()["rsa"].Public().(*rsa.PublicKey).N
	twice := strings.Replace(with("p256", "use", "sig"), `"kty"`, `"kty":"EC","kty"`, 1)
	for name, try := range map[string]struct{ text, want string }{
		"nothing":                         {"", "malformed JSON"},
		"a list":                          {"[]", "not a JSON object"},
		"an empty object":                 {"{}", "kty is not RSA, EC or OKP"},
		"a member twice":                  {twice, "a JSON key comes twice"},
		"more behind":                     {with("ed", "use", "sig") + "x", "malformed JSON"},
		"too long":                        {with("ed", "x", strings.Repeat("A", 4096)), "the key's text is longer than 4096 bytes"},
		"a secret":                        {`{"kty":"oct","k":"AAAA"}`, "it holds a private part"},
		"kty oct":                         {with("ed", "kty", "oct"), "kty is not"},
		"kty in another case":             {with("p256", "kty", "ec"), "kty is not"},
		"kty of another kind":             {with("p256", "kty", "OKP"), "malformed"},
		"d of EC":                         {with("p256", "d", "AAAA"), "it holds a private part"},
		"d of Ed25519":                    {with("ed", "d", "AAAA"), "it holds a private part"},
		"d of RSA":                        {with("rsa", "d", "AAAA"), "it holds a private part"},
		"p":                               {with("rsa", "p", "AAAA"), "it holds a private part"},
		"q":                               {with("rsa", "q", "AAAA"), "it holds a private part"},
		"dp":                              {with("rsa", "dp", "AAAA"), "it holds a private part"},
		"dq":                              {with("rsa", "dq", "AAAA"), "it holds a private part"},
		"qi":                              {with("rsa", "qi", "AAAA"), "it holds a private part"},
		"oth":                             {with("rsa", "oth", []any{}), "it holds a private part"},
		"x5c":                             {with("rsa", "x5c", []string{"AAAA"}), "it has a member that no public key of ours has"},
		"x5u":                             {with("rsa", "x5u", "https://evil.example"), "it has a member that no public key of ours has"},
		"KTY beside kty":                  {with("ed", "KTY", "OKP"), "it has a member that no public key of ours has"},
		"a member of another kind of key": {with("ed", "y", "AAAA"), "it has a member that is not of its kind"},
		"an empty member of another kind": {with("ed", "n", ""), "it has a member that is not of its kind"},
		"no kid":                          {with("ed", "kid", nil), "`kid` is missing"},
		"kid empty":                       {with("ed", "kid", ""), "`kid` is not that of this key"},
		"kid of another key":              {with("ed", "kid", ownKeyOf(t, "p256").KeyID()), "`kid` is not that of this key"},
		"kid a number":                    {with("ed", "kid", 1), "a member has a wrong type"},
		"no alg":                          {with("ed", "alg", nil), "`alg` is missing"},
		"alg none":                        {with("ed", "alg", "none"), "`alg` is not that of this key"},
		"alg HS256":                       {with("rsa", "alg", "HS256"), "`alg` is not that of this key"},
		"alg of another kind of key":      {with("p256", "alg", "RS256"), "`alg` is not that of this key"},
		"alg RS512":                       {with("rsa", "alg", "RS512"), "`alg` is not that of this key"},
		"alg PS256":                       {with("rsa", "alg", "PS256"), "`alg` is not that of this key"},
		"alg by its newer name":           {with("ed", "alg", "Ed25519"), "`alg` is not that of this key"},
		"no use":                          {with("ed", "use", nil), "`use` is missing"},
		"use enc":                         {with("ed", "use", "enc"), "use is not sig"},
		"no crv":                          {with("p256", "crv", nil), "malformed"},
		"crv P-384 over a P-256 point":    {with("p256", "crv", "P-384"), "malformed"},
		"crv secp256k1":                   {with("p256", "crv", "secp256k1"), "malformed"},
		"crv X25519":                      {with("ed", "crv", "X25519"), "not a key for signatures"},
		"a real key on P-384":             {string(jsonOf(t, jwk(testKeys()["p384"], nil))), "an EC key on P-384"},
		"a point off the curve":           {with("p256", "y", member("p256", "x")), "malformed"},
		"a point at the origin":           {changed("p256", map[string]any{"x": b64(make([]byte, 32)), "y": b64(make([]byte, 32))}), "malformed"},
		"half a point":                    {with("p256", "y", nil), "malformed"},
		"x padded with a zero":            {with("p256", "x", b64(append([]byte{0}, decode(t, member("p256", "x"))...))), "`x` is not that of this key"},
		"x with padding":                  {with("p256", "x", member("p256", "x")+"="), "`x` is not that of this key"},
		"x with loose bits":               {with("p256", "x", loosen(member("p256", "x"))), "`x` is not that of this key"},
		"Ed25519 x of 31 bytes":           {with("ed", "x", b64([]byte(decode(t, member("ed", "x")))[:31])), "malformed"},
		"Ed25519 x with loose bits":       {with("ed", "x", loosen(member("ed", "x"))), "`x` is not that of this key"},
		"the Ed25519 identity":            {with("ed", "x", b64(append([]byte{1}, make([]byte, 31)...))), "an Ed25519 key of small order"},
		"RSA with e 1":                    {with("rsa", "e", "AQ"), "malformed"},
		"RSA with e 2":                    {with("rsa", "e", "Ag"), "no RSA key"},
		"RSA with e 3":                    {with("rsa", "e", "Aw"), "an RSA key with the exponent 3"},
		"RSA with e 65536":                {with("rsa", "e", "AQAA"), "no RSA key"},
		"RSA with a huge e":               {with("rsa", "e", "AQABAQABAQABAQAB"), "the exponent is too large"},
		"RSA with e in more bytes":        {with("rsa", "e", "AAEAAQ"), "`e` is not that of this key"},
		"RSA without e":                   {with("rsa", "e", nil), "malformed"},
		"RSA of 1024 bits":                {weakRSA(new(big.Int).Rsh(modulus, 1024), "AQAB"), "an RSA key of 1024 bits"},
		"RSA of 2047 bits":                {weakRSA(new(big.Int).SetBit(new(big.Int).Rsh(modulus, 1), 0, 1), "AQAB"), "an RSA key of 2047 bits"},
		"RSA of 8208 bits":                {weakRSA(new(big.Int).Lsh(modulus, 8208-2048), "AQAB"), "an RSA key of 8208 bits"},
		"RSA with an even modulus":        {weakRSA(new(big.Int).SetBit(modulus, 0, 0), "AQAB"), "no RSA key"},
		"RSA with n padded with a zero":   {with("rsa", "n", b64(append([]byte{0}, modulus.Bytes()...))), "`n` is not that of this key"},
		"another key under this kid":      {with("rsa", "n", b64(testKeys()["rsa2"].Public().(*rsa.PublicKey).N.Bytes())), "`kid` is not that of this key"},
	} {
		got, err := ParsePublicKey([]byte(try.text))
		if err == nil || got.KeyID != "" || !strings.HasPrefix(err.Error(), try.want) {
			t.Errorf("%s: %+v, %v; want %q", name, got, err, try.want)
		}
	}
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each of the points of small order is a key under which a signature verifies that
// nobody made, and that is why judge refuses it, with either sign.
func TestSmallOrderKeysWouldVerifyForgeries(t *testing.T) {
	var points [][]byte
	for _, text := range smallOrderPoints {
		point, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		signed := slices.Clone(point)
		signed[31] |= 0x80
		points = append(points, point, signed)
	}
	for _, point := range points {
		if err := (&verifyKey{public: ed25519.PublicKey(point)}).judge(); err == nil {
			t.Errorf("%x was taken", point)
		}
	}
	for n := 0; n < len(points); n += 2 {
		forged := false
		for message := byte(0); message < 200 && !forged; message++ {
			for _, r := range points {
				// R of small order and S zero: it verifies wherever R is minus the
				// hash's multiple of the key.
				forged = forged || ed25519.Verify(points[n], []byte{message}, append(slices.Clone(r), make([]byte, 32)...))
			}
		}
		if !forged {
			t.Errorf("nothing could be forged under %x: it is no point of small order", points[n])
		}
	}
}

func TestJWKS(t *testing.T) {
	first, second, third := ownKeyOf(t, "rsa").Public(), ownKeyOf(t, "p256").Public(), ownKeyOf(t, "ed").Public()
	now := noon.UnixNano()
	empty, err := JWKS(nil, now)
	if err != nil || string(empty) != `{"keys":[]}` {
		t.Errorf("no keys: %s, %v", empty, err)
	}
	text, err := JWKS([]PublicKey{first, second, third}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]PublicKey{{third, first, second}, {second, third, first, second}} {
		if again, err := JWKS(order, now); err != nil || string(again) != string(text) {
			t.Errorf("another order makes %s, %v", again, err)
		}
	}
	// It is read by the reader of outside issuers' key sets.
	set, err := parseKeySet(text)
	if err != nil || len(set.keys) != 3 || len(set.ignored) > 0 {
		t.Fatalf("%+v, %v", set, err)
	}
	for _, k := range []PublicKey{first, second, third} {
		if _, match := set.find(k.KeyID, k.Algorithm); match != keyFound {
			t.Errorf("%s is not in it", k.Algorithm)
		}
	}
	// What has expired is gone; what is not valid yet is announced.
	second.Expires, third.NotBefore = now, now+int64(time.Hour)
	text, err = JWKS([]PublicKey{first, second, third}, now)
	if err != nil || strings.Contains(string(text), second.KeyID) || !strings.Contains(string(text), third.KeyID) {
		t.Errorf("%s, %v", text, err)
	}
	if text, err = JWKS([]PublicKey{first, second, third}, now-1); err != nil || !strings.Contains(string(text), second.KeyID) {
		t.Errorf("%s, %v", text, err)
	}
	// A row that was tampered with publishes nothing, and nothing private least of all.
	private := first
	private.JWK = []byte(strings.Replace(string(first.JWK), `"e":`, `"d":"c2VjcmV0","e":`, 1))
	renamed := first
	renamed.KeyID = "x"
	for name, bad := range map[string]PublicKey{"a private part": private, "another id": renamed, "no JWK": {KeyID: "x", Algorithm: "ES256"}} {
		if text, err := JWKS([]PublicKey{second, bad}, now-1); err == nil || text != nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}
