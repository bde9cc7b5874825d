package identity

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portcullis/policy"
)

// ownKeyOf is one of the test's keys as a key of our own.
func ownKeyOf(tb testing.TB, name string) *PrivateKey {
	tb.Helper()
	key, err := NewPrivateKey(testKeys()[name])
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// ownSetup is an issuer and a verifier of asymmetric tokens of our own, for "gate" and
// "blog", whose verifier has the keys of these names.
type ownSetup struct {
	keys      *OwnKeys
	issuer    *Issuer
	verifiers *Verifiers
	clock     *clock
}

// newOwnSetup signs with the first of the names.
func newOwnSetup(tb testing.TB, change func(*VerifierConfig), names ...string) *ownSetup {
	tb.Helper()
	s := &ownSetup{keys: &OwnKeys{}, clock: newClock()}
	var private []*PrivateKey
	for _, name := range names {
		private = append(private, ownKeyOf(tb, name))
	}
	if err := s.keys.SetKeys(PublicKeys(private)); err != nil {
		tb.Fatal(err)
	}
	s.issuer = newIssuer(tb, IssuerConfig{Algorithm: private[0].Algorithm(), Keys: private, Issuer: "gate", Audience: "blog", Now: s.clock.now})
	cfg := VerifierConfig{Algorithm: private[0].Algorithm(), Keys: s.keys, Issuer: "gate", Audience: "blog", Now: s.clock.now}
	if change != nil {
		change(&cfg)
	}
	own, err := NewVerifier(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	if s.verifiers, err = NewVerifiers(VerifiersConfig{Own: own, Now: s.clock.now, Wait: 5 * time.Second}); err != nil {
		tb.Fatal(err)
	}
	return s
}

func (s *ownSetup) issue(tb testing.TB) string {
	tb.Helper()
	token, err := s.issuer.Issue(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}, time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func (s *ownSetup) set(tb testing.TB, keys ...PublicKey) {
	tb.Helper()
	if err := s.keys.SetKeys(keys); err != nil {
		tb.Fatal(err)
	}
}

// A rotation, with a change of the algorithm in it: the second key is published, then it
// signs, then the first is withdrawn.
func TestRotationOfTheSigningKey(t *testing.T) {
	first, second := ownKeyOf(t, "rsa"), ownKeyOf(t, "p256")
	s := newOwnSetup(t, nil, "rsa", "p256")
	s.set(t, first.Public())
	old := s.issue(t)
	before := mustAccept(t, s.verifiers, old)

	// What a key signs that is not published yet is refused, and that is why it is
	// published first.
	if err := s.issuer.SetSigner(second.KeyID()); err != nil {
		t.Fatal(err)
	}
	young := s.issue(t)
	mustRefuse(t, s.verifiers, young, policy.ReasonInvalidToken, "`kid` names no key of ours")

	s.set(t, first.Public(), second.Public())
	after := mustAccept(t, s.verifiers, young)
	if after.KeyID != second.KeyID() {
		t.Errorf("signed by %s", after.KeyID)
	}
	mustAccept(t, s.verifiers, old)
	if !s.verifiers.Current(before) || !s.verifiers.Current(after) {
		t.Error("a key that was added cost the tokens of another")
	}

	// The first one gets an end, and verifies until then; its tokens stay current.
	ending := first.Public()
	ending.Expires = s.clock.now().Add(time.Hour).UnixNano()
	s.set(t, ending, second.Public())
	if !s.verifiers.Current(before) {
		t.Error("a key with an end lost its tokens before it")
	}
	s.clock.forward(time.Hour - 1)
	if !s.verifiers.Current(before) {
		t.Error("a key lost its tokens before its end")
	}
	mustAccept(t, s.verifiers, old)
	s.clock.forward(1)
	if s.verifiers.Current(before) {
		t.Error("a token of an expired key is current")
	}
	mustRefuse(t, s.verifiers, old, policy.ReasonInvalidToken, "the key that `kid` names has expired")
	if !s.verifiers.Current(after) {
		t.Error("the end of a key cost the tokens of another")
	}

	// It is withdrawn, and comes back: what it verified before is not current.
	s.set(t, second.Public())
	if s.verifiers.Current(before) || !s.verifiers.Current(after) {
		t.Error("after the withdrawal: the wrong tokens are current")
	}
	mustRefuse(t, s.verifiers, old, policy.ReasonInvalidToken, "`kid` names no key of ours")
	s.set(t, first.Public(), second.Public())
	if s.verifiers.Current(before) || !s.verifiers.Current(after) {
		t.Error("after the return: the wrong tokens are current")
	}
	mustAccept(t, s.verifiers, old)

	if err := s.issuer.SetSigner("x"); err == nil {
		t.Error("a key that is not there signs")
	}
	if kid, _ := s.issuer.Signer(); kid != second.KeyID() {
		t.Errorf("a refused signer replaced the one before: %q", kid)
	}
}

func TestAKeyThatIsNotValidYet(t *testing.T) {
	s := newOwnSetup(t, nil, "ed")
	key := ownKeyOf(t, "ed").Public()
	key.NotBefore = noon.Add(DefaultLeeway + 1).UnixNano()
	s.set(t, key)
	token := s.issue(t)
	mustRefuse(t, s.verifiers, token, policy.ReasonInvalidToken, "the key that `kid` names is not valid yet")
	s.clock.forward(1)
	mustAccept(t, s.verifiers, token)
}

// A key that cannot be used costs no other, and is named; a withdrawal takes effect
// beside it.
func TestSetKeysLeavesOutWhatItCannotUse(t *testing.T) {
	good, gone, twice := ownKeyOf(t, "p256").Public(), ownKeyOf(t, "rsa"), ownKeyOf(t, "ed").Public()
	s := newOwnSetup(t, nil, "rsa", "p256", "ed")
	old := mustAccept(t, s.verifiers, s.issue(t))
	renamed, other, ended := ownKeyOf(t, "rsa2").Public(), ownKeyOf(t, "other256").Public(), ownKeyOf(t, "rsa2").Public()
	renamed.KeyID = "renamed"
	other.Algorithm = "EdDSA"
	ended.NotBefore, ended.Expires = 2, 1
	junk := PublicKey{KeyID: "junk", Algorithm: "ES256", JWK: []byte(`{"kty":"EC"}`)}
	err := s.keys.SetKeys([]PublicKey{renamed, twice, junk, good, other, twice, ended, twice})
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		`public key "renamed" is not used: the key id is not that of the JWK`,
		`public key "junk" is not used: malformed`,
		`public key "` + other.KeyID + `" is not used: the algorithm is not that of the JWK`,
		`public key "` + twice.KeyID + `" is not used: the key comes twice`,
		`public key "` + ended.KeyID + `" is not used: the times bound nothing`,
		`public key "` + twice.KeyID + `" is not used: the key comes twice`,
	}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if s.verifiers.Current(old) {
		t.Error("a bad row kept a withdrawn key alive")
	}
	for name, refused := range map[*PrivateKey]bool{gone: true, ownKeyOf(t, "p256"): false, ownKeyOf(t, "ed"): true} {
		if err := s.issuer.SetSigner(name.KeyID()); err != nil {
			t.Fatal(err)
		}
		if _, reason := s.verifiers.Verify(s.issue(t)); (reason != policy.ReasonOK) != refused {
			t.Errorf("%v: %v", name, reason)
		}
	}
}

// The secret verifies HS* under an HS* algorithm alone, beside keys or not; the keys
// verify whatever the algorithm is.
func TestSecretAndKeysSideBySide(t *testing.T) {
	hmacToken := signed(goodHeader, object(nil))
	for name, try := range map[string]struct {
		algorithm  string
		secret     []byte
		hmac, keys bool
	}{
		"HS256 and both":     {"HS256", testSecret, true, true},
		"the default":        {"", testSecret, true, true},
		"HS512 and both":     {"HS512", testSecret, false, true},
		"HS256, no secret":   {"HS256", nil, false, true},
		"ES256, no secret":   {"ES256", nil, false, true},
		"ES256 and a secret": {"ES256", testSecret, false, true},
		"EdDSA and a secret": {"EdDSA", testSecret, false, true},
	} {
		s := newOwnSetup(t, func(c *VerifierConfig) { c.Algorithm, c.Secret = try.algorithm, try.secret }, "p256")
		if _, reason := s.verifiers.Verify(hmacToken); (reason == policy.ReasonOK) != try.hmac {
			t.Errorf("%s: the HS256 token: %v", name, reason)
		}
		if _, reason := s.verifiers.Verify(s.issue(t)); (reason == policy.ReasonOK) != try.keys {
			t.Errorf("%s: the ES256 token: %v", name, reason)
		}
	}
	if _, err := NewVerifier(VerifierConfig{Algorithm: "RS512", Keys: &OwnKeys{}}); err == nil {
		t.Error("RS512 was taken")
	}
	if _, err := NewVerifier(VerifierConfig{Algorithm: "ES256", Secret: testSecret[:31], Keys: &OwnKeys{}}); err == nil {
		t.Error("a short secret was taken")
	}
	// The zero OwnKeys has no key, and no token passes for that.
	s := newOwnSetup(t, func(c *VerifierConfig) { c.Keys = &OwnKeys{} }, "p256")
	mustRefuse(t, s.verifiers, s.issue(t), policy.ReasonInvalidToken, "`kid` names no key of ours")
}

// A change of the settings or of the policy's issuers costs asymmetric tokens too.
func TestCurrentHoldsTheSettingsToo(t *testing.T) {
	s := newOwnSetup(t, nil, "ed")
	own := s.verifiers.cfg.Own
	token := mustAccept(t, s.verifiers, s.issue(t))
	if !s.verifiers.Current(token) || !own.Current(token) {
		t.Fatal("not current at once")
	}
	s.verifiers.Apply([]policy.Issuer{{Name: "gate", JWKSURL: "https://id.example.com/keys", Algorithms: []string{"EdDSA"}}})
	if s.verifiers.Current(token) {
		t.Error("current although the policy gave its issuer away")
	}
	s.verifiers.Apply(nil)
	if !s.verifiers.Current(token) {
		t.Error("not current again")
	}
	if err := own.Reload(VerifierConfig{Algorithm: "EdDSA", Keys: s.keys, Issuer: "another", Now: s.clock.now}); err != nil {
		t.Fatal(err)
	}
	if s.verifiers.Current(token) || own.Current(token) {
		t.Error("current under other settings")
	}
	// Neither is a token of the secret, once the keys have taken its place, nor one of
	// another Verifier's.
	hs := newVerifier(t, VerifierConfig{Now: s.clock.now})
	was, _ := hs.Verify(signed(goodHeader, object(nil)))
	if err := hs.Reload(VerifierConfig{Secret: testSecret, Algorithm: "EdDSA", Keys: s.keys}); err != nil {
		t.Fatal(err)
	}
	if hs.Current(was) {
		t.Error("a token of the secret is current under EdDSA")
	}
}

func TestCurrentAllocatesNothing(t *testing.T) {
	s := newOwnSetup(t, nil, "ed", "rsa")
	ending := ownKeyOf(t, "ed").Public()
	ending.Expires = noon.Add(time.Hour).UnixNano()
	s.set(t, ending, ownKeyOf(t, "rsa").Public())
	var tokens []*Token
	for _, name := range []string{"ed", "rsa"} {
		if err := s.issuer.SetSigner(ownKeyOf(t, name).KeyID()); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, mustAccept(t, s.verifiers, s.issue(t)))
	}
	for _, token := range tokens {
		if n := testing.AllocsPerRun(100, func() {
			if !s.verifiers.Current(token) {
				t.Fatal("not current")
			}
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// Signatures of our own take their turn with those of outside issuers; HMAC takes none.
func TestOwnSignaturesTakeTurns(t *testing.T) {
	s := newOwnSetup(t, func(c *VerifierConfig) { c.Algorithm, c.Secret = "HS256", testSecret }, "p256")
	token := s.issue(t)
	v, err := NewVerifiers(VerifiersConfig{Own: s.verifiers.cfg.Own, Now: s.clock.now, Workers: 1, Queue: 1, Wait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	mustAccept(t, v, token)
	if len(v.permits.running) != 0 {
		t.Fatal("a permit was kept")
	}
	v.permits.acquire(nil)
	mustRefuse(t, v, token, policy.ReasonOverloaded, "too many signatures are being verified")
	mustAccept(t, v, signed(goodHeader, object(nil)))
	// What needs no signature to be refused waits for no turn.
	mustRefuse(t, v, signed(withKid("ES256", "x"), object(nil)), policy.ReasonInvalidToken, "`kid` names no key of ours")
	v.permits.release()
	mustAccept(t, v, token)
	if v.permits.waiting.Load() != 0 || len(v.permits.running) != 0 {
		t.Error("a permit or a place was lost")
	}
}

// Keys come and go while tokens are issued, verified and asked about; a token is
// accepted only while its key is there.
func TestKeysChangeUnderLoad(t *testing.T) {
	s := newOwnSetup(t, nil, "ed", "p256")
	stays, goes := ownKeyOf(t, "ed"), ownKeyOf(t, "p256")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for n := range 200 {
			keys := []PublicKey{stays.Public()}
			if n%2 == 0 {
				keys = append(keys, goes.Public())
			}
			if err := s.keys.SetKeys(keys); err != nil {
				t.Error(err)
			}
		}
	})
	for _, key := range []*PrivateKey{stays, goes} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.issuer.SetSigner(key.KeyID()); err != nil {
					t.Error(err)
				}
				issued, err := s.issuer.IssueToken(TokenRequest{Principal: policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: "alice"}, Lifetime: time.Hour})
				if err != nil {
					t.Error(err)
				}
				token, reason := s.verifiers.Verify(issued.Text)
				if issued.KeyID == stays.KeyID() && (reason != policy.ReasonOK || !s.verifiers.Current(token)) {
					t.Errorf("a token of the key that stays: %v", reason)
				}
				if token != nil {
					s.verifiers.Current(token)
				}
				s.verifiers.Inspect(issued.Text)
			}
		})
	}
	wg.Wait()
	s.set(t, stays.Public())
	if err := s.issuer.SetSigner(goes.KeyID()); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, s.verifiers, s.issue(t), policy.ReasonInvalidToken, "`kid` names no key of ours")
}

func BenchmarkOwnVerify(b *testing.B) {
	for alg, name := range map[string]string{"RS256": "rsa", "ES256": "p256", "EdDSA": "ed"} {
		b.Run(alg, func(b *testing.B) {
			s := newOwnSetup(b, nil, name)
			token := s.issue(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, reason := s.verifiers.Verify(token); reason != policy.ReasonOK {
					b.Fatal(reason)
				}
			}
		})
	}
}

func BenchmarkOwnCurrent(b *testing.B) {
	s := newOwnSetup(b, nil, "ed", "p256", "rsa")
	token := mustAccept(b, s.verifiers, s.issue(b))
	b.ReportAllocs()
	for b.Loop() {
		if !s.verifiers.Current(token) {
			b.Fatal("not current")
		}
	}
}
