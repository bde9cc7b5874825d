package identity

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"portcullis/policy"
)

// oursAlone says by its own reckoning whether the token was signed by the secret.
func oursAlone(token string) bool {
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return false
	}
	mac := hmac.New(sha256.New, testSecret)
	mac.Write([]byte(token[:dot]))
	return token[dot+1:] == base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// holdAccepted checks what must be true of any token that was accepted.
func holdAccepted(t *testing.T, token string, got *Token) {
	t.Helper()
	if !oursAlone(token) {
		t.Fatalf("accepted, and not signed by us: %q", token)
	}
	now := noon.UnixNano()
	leeway := int64(DefaultLeeway)
	p := got.Principal
	if p.ID == "" || len(p.ID) > 255 || strings.ContainsFunc(p.ID, func(r rune) bool { return r <= ' ' || r >= 0x7f }) ||
		p.Tenant == "" || len(p.Tenant) > 64 || p.Kind.String() == "" ||
		got.Expires+leeway <= now || got.NotBefore-leeway > now || got.IssuedAt-leeway > now ||
		got.Issuer != "gate" || len(got.KeyID) > 256 || len(got.ID) > 256 {
		t.Fatalf("accepted with %+v: %q", got, token)
	}
}

// FuzzVerify throws arbitrary bytes at the verifier.
func FuzzVerify(f *testing.F) {
	for _, try := range hostile(f) {
		f.Add(try.token)
	}
	f.Add(signed(goodHeader, object(nil)))
	v := newVerifier(f, VerifierConfig{Issuer: "gate", Audience: "blog"})
	f.Fuzz(func(t *testing.T, token string) {
		got, reason := v.Verify(token)
		if (got != nil) != (reason == policy.ReasonOK) {
			t.Fatalf("%v with %v", got, reason)
		}
		if got != nil {
			holdAccepted(t, token, got)
		}
	})
}

// FuzzSignedVerify signs arbitrary headers and payloads, and asks encoding/json
// what an accepted one says: a reader behind the gate must see the same caller.
func FuzzSignedVerify(f *testing.F) {
	for _, try := range hostile(f) {
		parts := strings.Split(try.token, ".")
		if len(parts) != 3 || len(try.token) > MaxTokenSize {
			continue
		}
		header, err1 := base64.RawURLEncoding.DecodeString(parts[0])
		payload, err2 := base64.RawURLEncoding.DecodeString(parts[1])
		if err1 == nil && err2 == nil {
			f.Add(string(header), string(payload))
		}
	}
	f.Add(goodHeader, object(nil))
	v := newVerifier(f, VerifierConfig{Issuer: "gate", Audience: "blog"})
	f.Fuzz(func(t *testing.T, header, payload string) {
		token := signed(header, payload)
		got, reason := v.Verify(token)
		if (got != nil) != (reason == policy.ReasonOK) {
			t.Fatalf("%v with %v", got, reason)
		}
		if got == nil {
			return
		}
		holdAccepted(t, token, got)
		var h map[string]any
		if err := json.Unmarshal([]byte(header), &h); err != nil || h["alg"] != "HS256" {
			t.Fatalf("accepted a header %q", header)
		}
		for _, name := range []string{"crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "enc", "zip", "cty"} {
			if _, has := h[name]; has {
				t.Fatalf("accepted %s in %q", name, header)
			}
		}
		// A struct, since encoding/json matches its fields in any case.
		var c struct {
			Sub    string
			Iss    string
			Jti    string
			Tenant *string
			Kind   *string
			Exp    float64
			Cnf    any
			AtHash any `json:"at_hash"`
			CHash  any `json:"c_hash"`
		}
		if err := json.Unmarshal([]byte(payload), &c); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v in %q", err, payload)
		}
		tenant, kind := "default", "user"
		if c.Tenant != nil {
			tenant = *c.Tenant
		}
		if c.Kind != nil {
			kind = *c.Kind
		}
		if c.Sub != got.Principal.ID || tenant != got.Principal.Tenant || kind != got.Principal.Kind.String() || c.Iss != got.Issuer || c.Jti != got.ID ||
			c.Cnf != nil || c.AtHash != nil || c.CHash != nil {
			t.Fatalf("we see %+v, encoding/json %+v in %q", got, c, payload)
		}
		if d := c.Exp - float64(got.Expires)/1e9; d > 1e-3 || d < -1e-3 {
			t.Fatalf("we see exp %d, encoding/json %v", got.Expires, c.Exp)
		}
	})
}

// FuzzReadObject holds the strict parser against encoding/json: what it accepts
// is valid there and means the same, and what it refuses of a valid object has
// one of the known faults.
func FuzzReadObject(f *testing.F) {
	for _, text := range []string{`{}`, ` { "a" : [ 1 , -0.5e+3, true , null ] } `, `{"\u0041\ud83d\ude00\n":"\/"}`, `{"a":{"b":{}}}`, `[]`, `{"a":1,"a":2}`, `{"a":01}`, `{"a":1.}`, `{"a":"\ud800"}`, "{\"a\":\"\x01\"}", `{"a":tru}`, `{,}`, `{"a":1,}`, `{"a":-}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		members, err := readObject(text)
		if err == nil {
			var want map[string]json.RawMessage
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatalf("accepted what encoding/json refuses: %v", err)
			}
			if len(want) != len(members) {
				t.Fatalf("%d members, encoding/json finds %d", len(members), len(want))
			}
			for _, m := range members {
				if value, ok := want[m.key]; !ok || !bytes.Equal(value, m.value) {
					t.Fatalf("%q is %q, encoding/json says %q", m.key, m.value, value)
				}
				if got, ok := stringValue(m.value); ok {
					var want string
					if err := json.Unmarshal(m.value, &want); err != nil || got != want {
						t.Fatalf("%q reads %q, encoding/json %q", m.value, got, want)
					}
				}
			}
			return
		}
		var object map[string]json.RawMessage
		switch err {
		case errJSONSyntax:
			// A lone surrogate is all that we call malformed and encoding/json mends.
			if json.Unmarshal(text, &object) == nil && object != nil && !bytes.Contains(bytes.ToLower(text), []byte(`\ud`)) {
				t.Fatalf("refused a valid object: %q", text)
			}
		case errJSONNotObject:
			if json.Unmarshal(text, &object) == nil && object != nil {
				t.Fatalf("an object: %q", text)
			}
		case errJSONDepth:
			if bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) <= maxJSONDepth {
				t.Fatalf("not that deep: %q", text)
			}
		case errJSONDuplicate, errJSONText:
		default:
			t.Fatal(err)
		}
	})
}
