package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"portcullis/policy"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign is an implementation of JWS of its own, so that the tests do not ask
// golang-jwt to judge golang-jwt.
func sign(header, payload string, newHash func() hash.Hash, secret []byte) string {
	return signText(b64(header)+"."+b64(payload), newHash, secret)
}

func signText(text string, newHash func() hash.Hash, secret []byte) string {
	mac := hmac.New(newHash, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// signed is a token that only its header and payload can condemn.
func signed(header, payload string) string { return sign(header, payload, sha256.New, testSecret) }

const goodHeader = `{"alg":"HS256","typ":"JWT"}`

// object is JSON of the members that every good payload has, with some changed:
// a nil value takes the member out.
func object(changes map[string]any) string {
	members := map[string]any{"sub": "alice", "exp": noon.Add(time.Hour).Unix(), "iat": noon.Unix(), "iss": "gate", "aud": "blog"}
	maps.Copy(members, changes)
	maps.DeleteFunc(members, func(_ string, v any) bool { return v == nil })
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func payload(name string, value any) string { return object(map[string]any{name: value}) }

// raw is a good payload with one member's JSON as it stands.
func raw(name, value string) string { return payload(name, json.RawMessage(value)) }

func fortyClaims() map[string]any {
	claims := map[string]any{}
	for n := range 40 {
		claims[fmt.Sprint("x", n)] = n
	}
	return claims
}

func strictVerifier(t testing.TB) *Verifier {
	return newVerifier(t, VerifierConfig{Issuer: "gate", Audience: "blog"})
}

func TestGoodTokens(t *testing.T) {
	v := strictVerifier(t)
	alice := policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}
	of := func(change func(*policy.Principal)) policy.Principal {
		p := alice
		change(&p)
		return p
	}
	for name, try := range map[string]struct {
		token string
		want  policy.Principal
	}{
		"plain":                     {signed(goodHeader, object(nil)), alice},
		"without typ":               {signed(`{"alg":"HS256"}`, object(nil)), alice},
		"typ at+jwt":                {signed(`{"alg":"HS256","typ":"at+jwt"}`, object(nil)), alice},
		"typ AT+JWT":                {signed(`{"alg":"HS256","typ":"AT+JWT"}`, object(nil)), alice},
		"typ application/at+jwt":    {signed(`{"alg":"HS256","typ":"application/at+jwt"}`, object(nil)), alice},
		"typ jwt":                   {signed(`{"alg":"HS256","typ":"jwt"}`, object(nil)), alice},
		"white space in the JSON":   {signed(" { \"alg\" :\n\"HS256\" } ", "\t"+object(nil)+"\r\n"), alice},
		"an escaped name":           {signed(`{"\u0061lg":"HS256"}`, object(nil)), alice},
		"unknown header parameters": {signed(`{"alg":"HS256","x":{"y":[1,null,true]},"ver":1}`, object(nil)), alice},
		"forty claims":              {signed(goodHeader, object(fortyClaims())), alice},
		"unknown claims":            {signed(goodHeader, payload("realm_access", map[string]any{"roles": []string{"a"}})), alice},
		"a tenant":                  {signed(goodHeader, payload("tenant", "acme_1.x-y")), of(func(p *policy.Principal) { p.Tenant = "acme_1.x-y" })},
		"kind user":                 {signed(goodHeader, payload("kind", "user")), alice},
		"kind client":               {signed(goodHeader, payload("kind", "client")), of(func(p *policy.Principal) { p.Kind = policy.KindClient })},
		"kind workload":             {signed(goodHeader, payload("kind", "workload")), of(func(p *policy.Principal) { p.Kind = policy.KindWorkload })},
		"payload typ Bearer":        {signed(goodHeader, payload("typ", "Bearer")), alice},
		"a subject of 255 bytes":    {signed(goodHeader, payload("sub", strings.Repeat("~", 255))), of(func(p *policy.Principal) { p.ID = strings.Repeat("~", 255) })},
		"a subject with marks":      {signed(goodHeader, payload("sub", `auth0|65f!"\,;=`)), of(func(p *policy.Principal) { p.ID = `auth0|65f!"\,;=` })},
		"aud among others":          {signed(goodHeader, payload("aud", []string{"shop", "blog"})), alice},
		"no iat":                    {signed(goodHeader, payload("iat", nil)), alice},
		"a fraction of a second":    {signed(goodHeader, payload("iat", float64(noon.Unix())-0.5)), alice},
		"an exponent":               {signed(goodHeader, raw("exp", "9.1e9")), alice},
		"expired within the leeway": {signed(goodHeader, payload("exp", noon.Unix()-29)), alice},
		"nbf within the leeway":     {signed(goodHeader, payload("nbf", noon.Unix()+30)), alice},
		"iat within the leeway":     {signed(goodHeader, payload("iat", noon.Unix()+30)), alice},
		"kid of 256 bytes":          {signed(`{"alg":"HS256","kid":"`+strings.Repeat("k", 256)+`"}`, object(nil)), alice},
		"kid with a path":           {signed(`{"alg":"HS256","kid":"../../dev/null' OR 1"}`, object(nil)), alice},
	} {
		got, reason := v.Verify(try.token)
		if reason != policy.ReasonOK {
			t.Errorf("%s: %v", name, v.Explain(try.token))
		} else if got.Principal != try.want {
			t.Errorf("%s: got %v, want %v", name, got.Principal, try.want)
		}
	}
}

func TestHostileTokens(t *testing.T) {
	v := strictVerifier(t)
	cases := hostile(t)
	if len(cases) < 50 {
		t.Errorf("only %d cases", len(cases))
	}
	for name, try := range cases {
		token, reason := v.Verify(try.token)
		if token != nil || reason != try.reason {
			t.Errorf("%s: got %+v, %v; want %v", name, token, reason, try.reason)
		}
		var refusal *Refusal
		if err := v.Explain(try.token); !errors.As(err, &refusal) || refusal.Reason != try.reason || !strings.Contains(refusal.Detail, try.detail) {
			t.Errorf("%s: got %q, want %q", name, err, try.detail)
		}
	}
}

// Where iss and aud are not configured they are not asked for, and still may not
// be of a wrong type.
func TestIssuerAndAudienceAreOptional(t *testing.T) {
	v := newVerifier(t, VerifierConfig{})
	for _, token := range []string{
		signed(goodHeader, object(map[string]any{"iss": nil, "aud": nil})),
		signed(goodHeader, object(map[string]any{"iss": "anyone", "aud": []string{"x"}})),
	} {
		if _, reason := v.Verify(token); reason != policy.ReasonOK {
			t.Error(v.Explain(token))
		}
	}
	for _, claims := range []string{raw("iss", "1"), raw("aud", "1"), raw("aud", "[null]")} {
		if _, reason := v.Verify(signed(goodHeader, claims)); reason != policy.ReasonInvalidToken {
			t.Errorf("%s: %v", claims, reason)
		}
	}
}

func TestOnlyTheConfiguredAlgorithmVerifies(t *testing.T) {
	hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	for configured := range hashes {
		v := newVerifier(t, VerifierConfig{Algorithm: configured})
		for used, newHash := range hashes {
			want := policy.ReasonInvalidToken
			if used == configured {
				want = policy.ReasonOK
			}
			if _, reason := v.Verify(sign(`{"alg":"`+used+`"}`, object(nil), newHash, testSecret)); reason != want {
				t.Errorf("%s under %s: %v", used, configured, reason)
			}
		}
	}
}

func TestVerifierConfig(t *testing.T) {
	for name, cfg := range map[string]VerifierConfig{
		"none":                {Secret: testSecret, Algorithm: "none"},
		"RS256":               {Secret: testSecret, Algorithm: "RS256"},
		"hs256":               {Secret: testSecret, Algorithm: "hs256"},
		"31 bytes":            {Secret: testSecret[:31]},
		"a negative leeway":   {Secret: testSecret, Leeway: -1},
		"a leeway past 60 s":  {Secret: testSecret, Leeway: MaxLeeway + 1},
		"none, and no secret": {Algorithm: "none"},
	} {
		if v, err := NewVerifier(cfg); err == nil || v != nil {
			t.Errorf("%s was taken", name)
		}
	}
	secret := append([]byte(nil), testSecret...)
	v := newVerifier(t, VerifierConfig{Secret: secret})
	clear(secret)
	if _, reason := v.Verify(signed(goodHeader, object(nil))); reason != policy.ReasonOK {
		t.Error("the verifier kept the caller's secret instead of a copy")
	}
}

func TestLeeway(t *testing.T) {
	for _, leeway := range []time.Duration{time.Second, MaxLeeway} {
		v := newVerifier(t, VerifierConfig{Leeway: leeway})
		seconds := int64(leeway / time.Second)
		for off, want := range map[int64]policy.Reason{-seconds + 1: policy.ReasonOK, -seconds: policy.ReasonExpired} {
			if _, reason := v.Verify(signed(goodHeader, payload("exp", noon.Unix()+off))); reason != want {
				t.Errorf("leeway %v, exp %+d s: %v", leeway, off, reason)
			}
		}
	}
}

// Check must say of a cached token what Verify would say of it at that moment.
func TestCheckAgreesWithVerify(t *testing.T) {
	now := noon
	v := newVerifier(t, VerifierConfig{Now: func() time.Time { return now }})
	text := signed(goodHeader, object(map[string]any{"nbf": noon.Unix(), "exp": noon.Unix() + 600}))
	token, reason := v.Verify(text)
	if reason != policy.ReasonOK {
		t.Fatal(reason)
	}
	for _, off := range []time.Duration{-time.Hour, -31 * time.Second, -30 * time.Second, 0, 10 * time.Minute, 630*time.Second - 1, 630 * time.Second, time.Hour} {
		now = noon.Add(off)
		_, want := v.Verify(text)
		if got := token.Check(now.UnixNano()); got != want {
			t.Errorf("at %v: Check says %v, Verify %v", off, got, want)
		}
	}
}

func TestReloadMakesAnotherGeneration(t *testing.T) {
	v := newVerifier(t, VerifierConfig{})
	text := signed(goodHeader, object(nil))
	before, _ := v.Verify(text)
	other := []byte("another secret of 32 bytes.......")
	if err := v.Reload(VerifierConfig{Secret: other[:8]}); err == nil || v.Generation() != before.Generation {
		t.Errorf("a bad reload: %v, generation %d", err, v.Generation())
	}
	if _, reason := v.Verify(text); reason != policy.ReasonOK {
		t.Errorf("after a bad reload: %v", reason)
	}
	if err := v.Reload(VerifierConfig{Secret: other, Now: atNoon}); err != nil {
		t.Fatal(err)
	}
	if v.Generation() == before.Generation {
		t.Error("the generation did not change with the secret")
	}
	if _, reason := v.Verify(text); reason != policy.ReasonInvalidToken {
		t.Errorf("a token of the former secret: %v", reason)
	}
	after, reason := v.Verify(sign(goodHeader, object(nil), sha256.New, other))
	if reason != policy.ReasonOK || after.Generation != v.Generation() {
		t.Errorf("a token of the new secret: %+v, %v", after, reason)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := v.Reload(VerifierConfig{Secret: other, Now: atNoon}); err != nil {
					t.Error(err)
				}
				v.Verify(text)
			}
		})
	}
	wg.Wait()
	if got := v.Generation(); got != after.Generation+400 {
		t.Errorf("400 reloads made %d generations", got-after.Generation)
	}
}

// What a Refusal says of a token is made of our words alone.
func TestRefusalsQuoteNothing(t *testing.T) {
	v := strictVerifier(t)
	for name, try := range hostile(t) {
		for _, c := range v.Explain(try.token).Error() {
			if c < ' ' || c > '~' {
				t.Errorf("%s: %q", name, v.Explain(try.token))
			}
		}
	}
	if err := v.Explain(signed(goodHeader, payload("kind", "hunter2"))); strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Error(err)
	}
	if err := v.Explain(signed(goodHeader, object(nil))); err != nil {
		t.Errorf("a good token: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	v := strictVerifier(b)
	token := signed(goodHeader, object(map[string]any{"email": strings.Repeat("x", 300)}))
	b.ReportAllocs()
	for b.Loop() {
		if _, reason := v.Verify(token); reason != policy.ReasonOK {
			b.Fatal(reason)
		}
	}
}
