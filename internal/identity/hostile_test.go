package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// hostile is every token that must not be accepted, with the reason that it gets
// and a part of the text that an operator reads.
func hostile(t testing.TB) map[string]struct {
	token  string
	reason policy.Reason
	detail string
} {
	type refusal = struct {
		token  string
		reason policy.Reason
		detail string
	}
	good := signed(goodHeader, object(nil))
	parts := strings.Split(good, ".")
	invalid := func(token, detail string) refusal { return refusal{token, policy.ReasonInvalidToken, detail} }
	header := func(h, detail string) refusal { return invalid(signed(h, object(nil)), detail) }
	claim := func(name string, value any) refusal {
		return invalid(signed(goodHeader, payload(name, value)), "`"+name+"` has a wrong type")
	}
	const (
		shape     = "not three segments"
		signature = "the signature is not ours"
	)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rs256, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "alice", "exp": noon.Add(time.Hour).Unix(), "iss": "gate", "aud": "blog"}).SignedString(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	many := "" // forty members, x0 to x39
	for n := range 40 {
		many += fmt.Sprintf(`"x%d":0,`, n)
	}
	longest := b64(strings.Repeat("x", 1<<20))

	return map[string]refusal{
		// Shape.
		"nothing":                        invalid("", shape),
		"one dot":                        invalid(parts[0]+"."+parts[1], shape),
		"three dots":                     invalid(good+".x", shape),
		"five segments, a JWE":           invalid(good+".x.y", shape),
		"a dot at the end":               invalid(good+".", shape),
		"a dot before":                   invalid("."+good, shape),
		"only dots":                      invalid("..", shape),
		"a thousand dots":                invalid(strings.Repeat(".", 1000), shape),
		"more than 8 KiB of dots":        invalid(strings.Repeat(".", 1<<20), "longer than 8 KiB"),
		"a payload of a MiB":             invalid(parts[0]+"."+longest+"."+parts[2], "longer than 8 KiB"),
		"one byte past 8 KiB":            invalid(good+strings.Repeat("A", MaxTokenSize+1-len(good)), "longer than 8 KiB"),
		"no signature":                   invalid(parts[0]+"."+parts[1]+".", shape),
		"no header":                      invalid("."+parts[1]+"."+parts[2], shape),
		"no payload":                     invalid(parts[0]+".."+parts[2], shape),
		"padded segments":                invalid(base64.URLEncoding.EncodeToString([]byte(`{"alg":"HS256"}  `))+"."+parts[1]+"."+parts[2], shape),
		"the standard alphabet":          invalid(parts[0]+"."+parts[1]+"."+parts[2][:41]+"+/", shape),
		"a newline inside":               invalid(parts[0][:4]+"\n"+parts[0][4:]+"."+parts[1]+"."+parts[2], shape),
		"a newline after":                invalid(good+"\n", shape),
		"a space before":                 invalid(" "+good, shape),
		"Bearer before":                  invalid("Bearer "+good, shape),
		"a zero byte":                    invalid(good+"\x00", shape),
		"a percent sign":                 invalid(strings.Replace(good, ".", "%2e", 1), shape),
		"a letter beyond ASCII":          invalid("é"+good, shape),
		"JSON serialisation":             invalid(`{"protected":"`+parts[0]+`","payload":"`+parts[1]+`","signature":"`+parts[2]+`"}`, shape),
		"loose trailing bits, header":    invalid(signText(loosen(b64(goodHeader+" "))+"."+parts[1], sha256.New, testSecret), "the header is not base64url"),
		"loose trailing bits, payload":   invalid(signText(parts[0]+"."+loosen(b64(object(nil)+strings.Repeat(" ", 2-len(object(nil))%3))), sha256.New, testSecret), "malformed"),
		"loose trailing bits, signature": invalid(parts[0]+"."+parts[1]+"."+loosen(parts[2]), "malformed"),

		// Header.
		"header no JSON":           header(`alg: HS256`, "header: malformed JSON"),
		"header an array":          header(`["HS256"]`, "header: not a JSON object"),
		"header a string":          header(`"HS256"`, "header: not a JSON object"),
		"header null":              header(`null`, "header: not a JSON object"),
		"header empty":             header(`{}`, "`alg` is missing"),
		"header twice":             header(goodHeader+goodHeader, "header: malformed JSON"),
		"header not UTF-8":         header("{\"alg\":\"HS256\",\"x\":\"\xff\"}", "header: JSON text is not valid UTF-8"),
		"header with a lone half":  header(`{"alg":"HS256","x":"\ud800"}`, "header: malformed JSON"),
		"header too deep":          header(`{"alg":"HS256","x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`}`, "header: JSON nested too deeply"),
		"header too long":          header(`{"alg":"HS256","x":"`+strings.Repeat("x", 1100)+`"}`, "the header is longer than 1 KiB"),
		"alg none, signed":         header(`{"alg":"none"}`, "`alg` is not the configured algorithm"),
		"alg none, unsigned":       invalid(b64(`{"alg":"none"}`)+"."+parts[1]+".", shape),
		"alg None with a word":     invalid(b64(`{"alg":"None"}`)+"."+parts[1]+".x", "`alg`"),
		"alg HS512, its hash":      invalid(sign(`{"alg":"HS512"}`, object(nil), sha512.New, testSecret), "`alg`"),
		"alg HS384":                invalid(sign(`{"alg":"HS384"}`, object(nil), sha512.New384, testSecret), "`alg`"),
		"alg hs256":                header(`{"alg":"hs256"}`, "`alg`"),
		"alg RS256":                invalid(rs256, "`alg`"),
		"alg ES256":                header(`{"alg":"ES256"}`, "`alg`"),
		"alg EdDSA":                header(`{"alg":"EdDSA"}`, "`alg`"),
		"alg with a space":         header(`{"alg":"HS256 "}`, "`alg`"),
		"alg a number":             header(`{"alg":256}`, "`alg`"),
		"alg null":                 header(`{"alg":null}`, "`alg`"),
		"alg an array":             header(`{"alg":["HS256"]}`, "`alg`"),
		"alg twice":                header(`{"alg":"none","alg":"HS256"}`, "header: a JSON key comes twice"),
		"alg twice, once escaped":  header(`{"alg":"HS256","\u0061lg":"none"}`, "header: a JSON key comes twice"),
		"alg in capitals":          header(`{"ALG":"HS256"}`, "`alg` in another case"),
		"alg twice by case":        header(`{"alg":"HS256","Alg":"none"}`, "`alg` in another case"),
		"crit of nothing":          header(`{"alg":"HS256","crit":[]}`, "`crit`"),
		"crit of exp":              header(`{"alg":"HS256","crit":["exp"],"exp":1}`, "`crit`"),
		"crit of b64":              header(`{"alg":"HS256","crit":["b64"],"b64":false}`, "`crit`"),
		"b64 false":                header(`{"alg":"HS256","b64":false}`, "`b64`"),
		"b64 true":                 header(`{"alg":"HS256","b64":true}`, "`b64`"),
		"jwk":                      header(`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`, "`jwk` brings its own key"),
		"jku":                      header(`{"alg":"HS256","jku":"https://evil.example"}`, "`jku`"),
		"x5u":                      header(`{"alg":"HS256","x5u":"https://evil.example"}`, "`x5u`"),
		"x5c":                      header(`{"alg":"HS256","x5c":["AAAA"]}`, "`x5c`"),
		"x5t":                      header(`{"alg":"HS256","x5t":"AAAA"}`, "`x5t`"),
		"x5t#S256":                 header(`{"alg":"HS256","x5t#S256":"AAAA"}`, "`x5t#S256`"),
		"jwk null":                 header(`{"alg":"HS256","jwk":null}`, "`jwk`"),
		"enc":                      header(`{"alg":"HS256","enc":"A128GCM"}`, "`enc`"),
		"zip":                      header(`{"alg":"HS256","zip":"DEF"}`, "`zip`"),
		"cty JWT":                  header(`{"alg":"HS256","cty":"JWT"}`, "`cty`"),
		"typ of an ID token":       header(`{"alg":"HS256","typ":"id+jwt"}`, "`typ`"),
		"typ of a logout token":    header(`{"alg":"HS256","typ":"logout+jwt"}`, "`typ`"),
		"typ of a DPoP proof":      header(`{"alg":"HS256","typ":"dpop+jwt"}`, "`typ`"),
		"typ empty":                header(`{"alg":"HS256","typ":""}`, "`typ`"),
		"typ null":                 header(`{"alg":"HS256","typ":null}`, "`typ`"),
		"typ an array":             header(`{"alg":"HS256","typ":["JWT"]}`, "`typ`"),
		"kid of 257 bytes":         header(`{"alg":"HS256","kid":"`+strings.Repeat("k", 257)+`"}`, "`kid`"),
		"kid a number":             header(`{"alg":"HS256","kid":1}`, "`kid`"),
		"kid null":                 header(`{"alg":"HS256","kid":null}`, "`kid`"),
		"kid an object":            header(`{"alg":"HS256","kid":{}}`, "`kid`"),
		"kid twice":                header(`{"alg":"HS256","kid":"a","kid":"b"}`, "header: a JSON key comes twice"),
		"a nested key comes twice": header(`{"alg":"HS256","x":{"a":1,"a":2}}`, "header: a JSON key comes twice"),

		// Signature.
		"another secret":              invalid(sign(goodHeader, object(nil), sha256.New, []byte("fedcba9876543210fedcba9876543210")), signature),
		"an empty secret":             invalid(sign(goodHeader, object(nil), sha256.New, nil), signature),
		"another hash under HS256":    invalid(sign(goodHeader, object(nil), sha512.New, testSecret), signature),
		"another payload":             invalid(parts[0]+"."+b64(payload("sub", "root"))+"."+parts[2], signature),
		"another header":              invalid(b64(`{"alg":"HS256"}`)+"."+parts[1]+"."+parts[2], signature),
		"a short signature":           invalid(parts[0]+"."+parts[1]+"."+b64(decode(t, parts[2])[:16]), signature),
		"a long signature":            invalid(parts[0]+"."+parts[1]+"."+b64(decode(t, parts[2])+"x"), signature),
		"a changed signature":         invalid(parts[0]+"."+parts[1]+"."+b64("x"+decode(t, parts[2])[1:]), signature),
		"HS256 with a public key":     invalid(sign(goodHeader, object(nil), sha256.New, rsaKey.N.Bytes()), signature),
		"expired and not ours":        invalid(sign(goodHeader, payload("exp", noon.Unix()-3600), sha256.New, []byte("x")), signature),
		"a payload of no JSON, junk":  invalid(b64(goodHeader)+"."+b64("x")+"."+parts[2], "malformed"),
		"a payload of no JSON, ours":  invalid(signed(goodHeader, "alice"), "malformed"),
		"a payload that is an array":  invalid(signed(goodHeader, `["alice"]`), "payload: not a JSON object"),
		"a payload that is null":      invalid(signed(goodHeader, `null`), "malformed"),
		"a payload with more behind":  invalid(signed(goodHeader, object(nil)+"{}"), "malformed"),
		"a payload that is not UTF-8": invalid(signed(goodHeader, strings.Replace(object(nil), "alice", "al\xffce", 1)), "payload: JSON text is not valid UTF-8"),
		"a payload too deep":          invalid(signed(goodHeader, raw("x", strings.Repeat("[", 40)+strings.Repeat("]", 40))), "payload: JSON nested too deeply"),

		// Claims.
		"sub twice":                     invalid(signed(goodHeader, `{"sub":"root","exp":9000000000,"sub":"alice"}`), "payload: a JSON key comes twice"),
		"sub twice among many":          invalid(signed(goodHeader, `{"sub":"root",`+many+`"exp":9000000000,"sub":"alice"}`), "payload: a JSON key comes twice"),
		"x9 twice among many":           invalid(signed(goodHeader, `{"sub":"alice","exp":9000000000,`+many+`"x9":1}`), "payload: a JSON key comes twice"),
		"x39 twice among many":          invalid(signed(goodHeader, `{"sub":"alice","exp":9000000000,`+many+`"x39":1}`), "payload: a JSON key comes twice"),
		"sub twice, once escaped":       invalid(signed(goodHeader, `{"sub":"root","exp":9000000000,"s\u0075b":"alice"}`), "payload: a JSON key comes twice"),
		"exp twice":                     invalid(signed(goodHeader, `{"sub":"alice","exp":1,"exp":9000000000}`), "payload: a JSON key comes twice"),
		"a key twice, deep":             invalid(signed(goodHeader, raw("x", `[{"a":{"b":1,"b":2}}]`)), "payload: a JSON key comes twice"),
		"Sub beside sub":                invalid(signed(goodHeader, payload("Sub", "root")), "`sub` in another case"),
		"Tenant":                        invalid(signed(goodHeader, payload("Tenant", "acme")), "`tenant` in another case"),
		"EXP alone":                     invalid(signed(goodHeader, object(map[string]any{"exp": nil, "EXP": noon.Add(time.Hour).Unix()})), "`exp` in another case"),
		"kind with a Kelvin sign":       invalid(signed(goodHeader, payload("\u212Aind", "client")), "`kind` in another case"),
		"no sub":                        invalid(signed(goodHeader, payload("sub", nil)), "`sub` is missing"),
		"sub empty":                     claim("sub", ""),
		"sub of 256 bytes":              claim("sub", strings.Repeat("a", 256)),
		"sub a number":                  claim("sub", 1000),
		"sub null":                      invalid(signed(goodHeader, raw("sub", "null")), "`sub`"),
		"sub an array":                  claim("sub", []string{"alice"}),
		"sub with a newline":            claim("sub", "alice\r\nx-auth-roles: admin"),
		"sub with a zero byte":          claim("sub", "alice\x00"),
		"sub with a space":              claim("sub", "alice "),
		"sub with DEL":                  claim("sub", "alice\x7f"),
		"sub beyond ASCII":              claim("sub", "alicé"),
		"no exp":                        invalid(signed(goodHeader, payload("exp", nil)), "`exp` is missing"),
		"exp null":                      invalid(signed(goodHeader, raw("exp", "null")), "`exp`"),
		"exp a string":                  claim("exp", "9000000000"),
		"exp true":                      claim("exp", true),
		"exp zero":                      claim("exp", 0),
		"exp negative":                  claim("exp", -1),
		"exp -0.0":                      invalid(signed(goodHeader, raw("exp", "-0.0")), "`exp`"),
		"exp beyond 64 bits":            invalid(signed(goodHeader, raw("exp", "99999999999999999999")), "`exp`"),
		"exp that wraps in nanoseconds": invalid(signed(goodHeader, raw("exp", "18446744074")), "`exp`"),
		"exp infinite":                  invalid(signed(goodHeader, raw("exp", "1e400")), "`exp`"),
		"exp 1e30":                      invalid(signed(goodHeader, raw("exp", "1e30")), "`exp`"),
		"exp in milliseconds":           claim("exp", noon.Add(time.Hour).UnixMilli()),
		"exp an array":                  claim("exp", []int64{noon.Add(time.Hour).Unix()}),
		"nbf a string":                  claim("nbf", "0"),
		"iat a string":                  claim("iat", "0"),
		"iat null":                      invalid(signed(goodHeader, raw("iat", "null")), "`iat`"),
		"expired at the leeway's end":   {signed(goodHeader, payload("exp", noon.Unix()-30)), policy.ReasonExpired, "`exp` has passed"},
		"expired long ago":              {signed(goodHeader, payload("exp", 1)), policy.ReasonExpired, "`exp` has passed"},
		"expired by a fraction":         {signed(goodHeader, payload("exp", float64(noon.Unix())-30.5)), policy.ReasonExpired, "`exp` has passed"},
		"expired and not valid yet":     {signed(goodHeader, object(map[string]any{"exp": noon.Unix() - 60, "nbf": noon.Unix() + 60})), policy.ReasonExpired, "`exp` has passed"},
		"nbf past the leeway":           invalid(signed(goodHeader, payload("nbf", noon.Unix()+31)), "lies in the future"),
		"iat past the leeway":           invalid(signed(goodHeader, payload("iat", noon.Unix()+31)), "lies in the future"),
		"iat far off":                   invalid(signed(goodHeader, payload("iat", 9_199_999_999)), "lies in the future"),
		"no iss":                        invalid(signed(goodHeader, payload("iss", nil)), "`iss` is not the configured issuer"),
		"another iss":                   invalid(signed(goodHeader, payload("iss", "gate2")), "`iss` is not"),
		"iss in capitals":               invalid(signed(goodHeader, payload("iss", "GATE")), "`iss` is not"),
		"iss with a slash":              invalid(signed(goodHeader, payload("iss", "gate/")), "`iss` is not"),
		"iss an array":                  claim("iss", []string{"gate"}),
		"iss null":                      invalid(signed(goodHeader, raw("iss", "null")), "`iss`"),
		"another iss, expired":          invalid(signed(goodHeader, object(map[string]any{"iss": "x", "exp": 1})), "`iss` is not"),
		"no aud":                        invalid(signed(goodHeader, payload("aud", nil)), "`aud` does not name"),
		"another aud":                   invalid(signed(goodHeader, payload("aud", "shop")), "`aud` does not name"),
		"aud empty":                     invalid(signed(goodHeader, payload("aud", "")), "`aud` does not name"),
		"aud an empty array":            invalid(signed(goodHeader, payload("aud", []string{})), "`aud` does not name"),
		"aud a prefix":                  invalid(signed(goodHeader, payload("aud", []string{"blo", "blogs"})), "`aud` does not name"),
		"aud of mixed types":            claim("aud", []any{"blog", 1}),
		"aud an object":                 claim("aud", map[string]any{"blog": true}),
		"aud nested":                    claim("aud", []any{[]string{"blog"}}),
		"aud null":                      invalid(signed(goodHeader, raw("aud", "null")), "`aud`"),
		"tenant a number":               claim("tenant", 1),
		"tenant empty":                  claim("tenant", ""),
		"tenant null":                   invalid(signed(goodHeader, raw("tenant", "null")), "`tenant`"),
		"tenant an array":               claim("tenant", []string{"default"}),
		"tenant of 65 bytes":            claim("tenant", strings.Repeat("a", 65)),
		"tenant with a slash":           claim("tenant", "a/b"),
		"tenant with a newline":         claim("tenant", "a\nb"),
		"tenant beyond ASCII":           claim("tenant", "é"),
		"kind unknown":                  claim("kind", "admin"),
		"kind in capitals":              claim("kind", "User"),
		"kind empty":                    claim("kind", ""),
		"kind a number":                 claim("kind", 1),
		"kind null":                     invalid(signed(goodHeader, raw("kind", "null")), "`kind`"),
		"jti a number":                  claim("jti", 1),
		"jti of 257 bytes":              claim("jti", strings.Repeat("j", 257)),
		"payload typ ID":                claim("typ", "ID"),
		"payload typ id":                claim("typ", "id"),
		"payload typ Refresh":           claim("typ", "Refresh"),
		"payload typ a number":          claim("typ", 1),
		"at_hash":                       invalid(signed(goodHeader, payload("at_hash", "x")), "`at_hash` marks an ID token"),
		"c_hash":                        invalid(signed(goodHeader, payload("c_hash", "x")), "`c_hash` marks an ID token"),
		"cnf":                           invalid(signed(goodHeader, payload("cnf", map[string]any{"jkt": "x"})), "`cnf` binds"),
		"cnf null":                      invalid(signed(goodHeader, raw("cnf", "null")), "`cnf` binds"),
	}
}

// loosen sets a trailing bit that the bytes of the segment do not use, so that a
// decoder that is not strict finds the same bytes.
func loosen(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(segment)%4 == 0 {
		panic("the segment has no spare bits")
	}
	last := len(segment) - 1
	return segment[:last] + string(alphabet[strings.IndexByte(alphabet, segment[last])|1])
}

func decode(t testing.TB, segment string) string {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
