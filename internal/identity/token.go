package identity

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// Bounds of what a token may hold, in bytes. docs/design/tokens.md says why.
const (
	MaxTokenSize   = 8 << 10
	MaxSubjectSize = 255
	MaxTenantSize  = 64
	MinSecretSize  = 32
	maxHeaderSize  = 1 << 10 // decoded
	maxKeyIDSize   = 256
	maxTokenIDSize = 256
)

// How far clocks may be apart.
const (
	DefaultLeeway = 30 * time.Second
	MaxLeeway     = 60 * time.Second
)

// VerifierConfig configures a Verifier of our own tokens.
type VerifierConfig struct {
	// Secret is the HMAC key: 32 bytes at least, or empty, and then no HS* token
	// verifies. It is copied.
	Secret []byte
	// Algorithm is HS256 (the default), HS384 or HS512, the one HMAC that verifies under
	// Secret. Where it is RS256, ES256 or EdDSA, which want Keys, Secret verifies
	// nothing.
	Algorithm string
	// Keys verify asymmetric tokens, whatever Algorithm says: each key is for its own
	// algorithm. nil refuses all such tokens. The keys in it may change at any time.
	Keys *OwnKeys
	// Issuer and Audience, where set, are required of every token.
	Issuer, Audience string
	// Leeway is how far clocks may be apart: at most 60 s, 30 s where it is 0.
	Leeway time.Duration
	// Now is the clock; time.Now where it is nil.
	Now func() time.Time
}

// Token is a verified token.
type Token struct {
	// Principal is of kind user unless the token's own `kind` claim says otherwise.
	Principal policy.Principal
	// Issuer, KeyID and ID are the `iss` and `jti` claims and the header's `kid`, ""
	// where absent. They are text from outside: any Unicode, for comparing and for
	// escaped logs only. Of an asymmetric token KeyID is the id of the key that
	// verified it, be it named by the token or not.
	Issuer, KeyID, ID string
	// Generation is the verifier's when it verified this token. A cached token of
	// another generation is no longer verified.
	Generation uint64
	// IssuedAt, NotBefore and Expires are Unix nanoseconds; the first two are 0
	// where absent.
	IssuedAt, NotBefore, Expires int64
	// HasIssuedAt says that the token has an `iat`. One without it cannot be told to be
	// younger than a revocation.
	HasIssuedAt bool
	// Roles are names of roles that an outside issuer's token brings, sorted. What a
	// role may do, and whether there is one of the name, the tenant's table says.
	Roles []string

	leeway        int64    // nanoseconds
	outside       *outside // who verified it; nil for our own
	keyGeneration uint64   // of the one of our own keys that verified it; 0 for none
}

// Check judges the token's times again, as a cache must on each hit. now is in
// Unix nanoseconds. It returns ReasonOK, ReasonExpired, or ReasonInvalidToken
// for a token that is not valid yet.
func (t *Token) Check(now int64) policy.Reason {
	switch {
	case now-t.leeway >= t.Expires:
		return policy.ReasonExpired
	case now+t.leeway < t.NotBefore, now+t.leeway < t.IssuedAt:
		return policy.ReasonInvalidToken
	}
	return policy.ReasonOK
}

// Refusal is why a token was refused: a Reason for the caller, and for the
// operator a text that holds nothing of the token but names of its fields.
type Refusal struct {
	Reason policy.Reason // ReasonInvalidToken, ReasonExpired or ReasonOverloaded
	Detail string
}

// Error returns the reason and the detail.
func (r *Refusal) Error() string { return r.Reason.String() + ": " + r.Detail }

func refuse(detail string) *Refusal { return &Refusal{policy.ReasonInvalidToken, detail} }

// Verifier verifies our own tokens: those that are signed with AUTH_JWT_SECRET_KEY, or
// with a private key whose public half is among the OwnKeys. The header's `alg` picks
// one of the two, and there is no second try. It is safe for concurrent use and takes
// no lock.
type Verifier struct {
	state atomic.Pointer[verifierState]
}

// verifierState is one generation of a Verifier, immutable.
type verifierState struct {
	generation uint64
	secret     []byte   // empty: no HS* token verifies
	hmac       string   // the algorithm of secret, "" where there is none
	keys       *OwnKeys // nil: no asymmetric token verifies
	algorithms []string // all that a header may name; none: refuse everything
	issuer     string
	audience   string
	leeway     int64
	now        func() time.Time
	parser     *jwt.Parser
	claims     *jwt.Validator
}

// NewVerifier returns a Verifier of generation 1. A secret of 1 to 31 bytes, an
// unknown algorithm, an asymmetric one without Keys, or a leeway out of range is an
// error.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	state, err := newVerifierState(cfg)
	if err != nil {
		return nil, err
	}
	state.generation = 1
	v := &Verifier{}
	v.state.Store(state)
	return v, nil
}

// Reload replaces the configuration and raises the generation, so that no token
// that a cache holds counts as verified any more. On an error nothing changes.
func (v *Verifier) Reload(cfg VerifierConfig) error {
	state, err := newVerifierState(cfg)
	if err != nil {
		return err
	}
	for {
		former := v.state.Load()
		state.generation = former.generation + 1
		if v.state.CompareAndSwap(former, state) {
			return nil
		}
	}
}

// Generation identifies the secret and settings that verify now. The keys have
// generations of their own, so that a new key costs no other key's tokens.
func (v *Verifier) Generation() uint64 { return v.state.Load().generation }

// Current reports whether a token that it verified counts as verified still: secret and
// settings are the same and so is the key that verified it, which has not expired. It
// allocates nothing.
func (v *Verifier) Current(t *Token) bool {
	state := v.state.Load()
	if t.outside != nil || t.Generation != state.generation {
		return false
	}
	return t.keyGeneration == 0 || state.keys.current(t.KeyID, t.keyGeneration, state.now)
}

func newVerifierState(cfg VerifierConfig) (*verifierState, error) {
	var hmac string
	if asymmetric := slices.Contains(OwnAlgorithms(), cfg.Algorithm); !asymmetric || cfg.Keys == nil {
		var err error
		if hmac, err = hmacAlgorithm(cfg.Algorithm); err != nil {
			return nil, err
		}
	}
	if len(cfg.Secret) > 0 && len(cfg.Secret) < MinSecretSize {
		return nil, fmt.Errorf("token secret has %d bytes: want %d at least", len(cfg.Secret), MinSecretSize)
	}
	if cfg.Leeway == 0 {
		cfg.Leeway = DefaultLeeway
	}
	if cfg.Leeway < 0 || cfg.Leeway > MaxLeeway {
		return nil, fmt.Errorf("token leeway %v: want 0 to %v", cfg.Leeway, MaxLeeway)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	state := &verifierState{
		keys: cfg.Keys, issuer: cfg.Issuer, audience: cfg.Audience, leeway: int64(cfg.Leeway), now: cfg.Now,
	}
	if len(cfg.Secret) > 0 && hmac != "" {
		state.secret, state.hmac = slices.Clone(cfg.Secret), hmac
		state.algorithms = append(state.algorithms, hmac)
	}
	if cfg.Keys != nil {
		state.algorithms = append(state.algorithms, OwnAlgorithms()...)
	}
	options := []jwt.ParserOption{
		jwt.WithStrictDecoding(),
		jwt.WithValidMethods(state.algorithms),
		// The claims are judged after the signature, by the validator below.
		jwt.WithoutClaimsValidation(),
		jwt.WithTimeFunc(cfg.Now),
		jwt.WithLeeway(cfg.Leeway),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	state.parser, state.claims = jwt.NewParser(options...), jwt.NewValidator(options...)
	return state, nil
}

// hmacAlgorithm checks the name of an algorithm; "" is HS256.
func hmacAlgorithm(name string) (string, error) {
	switch name {
	case "":
		return "HS256", nil
	case "HS256", "HS384", "HS512":
		return name, nil
	}
	return "", fmt.Errorf("algorithm %q: want HS256, HS384 or HS512, or with keys RS256, ES256 or EdDSA", name)
}

// Verify verifies a token as it came after "Bearer ". It returns ReasonOK and
// the token, or nil and ReasonExpired for a token that was good once, or nil and
// ReasonInvalidToken. It bounds nothing: many asymmetric tokens at once are for
// Verifiers to judge.
func (v *Verifier) Verify(token string) (*Token, policy.Reason) {
	t, refusal := v.verify(token, nil, nil)
	if refusal != nil {
		return nil, refusal.Reason
	}
	return t, policy.ReasonOK
}

// Explain verifies a token and returns why it is refused, a *Refusal, or nil. It
// is for people: the text is more than a caller from outside should learn.
func (v *Verifier) Explain(token string) error {
	if _, refusal := v.verify(token, nil, nil); refusal != nil {
		return refusal
	}
	return nil
}

// verify verifies a token. An asymmetric signature waits for its turn.
func (v *Verifier) verify(token string, tr *trace, turn *turns) (*Token, *Refusal) {
	state := v.state.Load()
	tr.step("header")
	if len(state.algorithms) == 0 {
		return nil, refuse("no secret is configured, so no token verifies")
	}
	header, refusal := readHeader(token, state.algorithms...)
	if refusal != nil {
		return nil, refusal
	}
	if tr != nil {
		tr.found("alg " + header.algorithm)
	}
	payload, key, refusal := state.signed(token, header, tr, turn)
	if refusal != nil {
		return nil, refusal
	}
	tr.step("claims")
	claims, refusal := readClaims(payload)
	if refusal != nil {
		return nil, refusal
	}
	if tr != nil {
		tr.found(fmt.Sprintf("%s %q of tenant %q", claims.kind, claims.subject, claims.tenant))
	}
	t := &Token{
		Principal:   policy.Principal{Tenant: claims.tenant, Kind: claims.kind, ID: claims.subject},
		Issuer:      claims.issuer,
		KeyID:       header.keyID,
		ID:          claims.id,
		Generation:  state.generation,
		IssuedAt:    claims.issuedAt,
		HasIssuedAt: claims.hasIssued,
		NotBefore:   claims.notBefore,
		Expires:     claims.expires,
		leeway:      state.leeway,
	}
	if key != nil {
		t.keyGeneration = key.generation
	}
	if refusal := state.judge(t, claims, tr); refusal != nil {
		return nil, refusal
	}
	return t, nil
}

// rawPayload keeps the payload's text through golang-jwt's parser.
type rawPayload struct {
	jwt.RegisteredClaims
	text []byte
}

// UnmarshalJSON copies the text; nothing of it is read before the signature is.
func (p *rawPayload) UnmarshalJSON(text []byte) error {
	p.text = slices.Clone(text)
	return nil
}

// signed returns what the signature covers once it has been verified, and the key
// that verified it, nil for the secret.
func (s *verifierState) signed(token string, header tokenHeader, tr *trace, turn *turns) ([]byte, *ownKey, *Refusal) {
	if header.algorithm == s.hmac {
		tr.step("signature")
		payload, refusal := s.payload(token, header.algorithm, s.secret)
		if refusal == nil {
			tr.found("verified by AUTH_JWT_SECRET_KEY")
		}
		return payload, nil, refusal
	}
	tr.step("key")
	key, refusal := s.keys.find(header.keyID, header.algorithm, s.now().UnixNano(), s.leeway)
	if refusal != nil {
		return nil, nil, refusal
	}
	if tr != nil {
		tr.found(fmt.Sprintf("kid %q, %s, one of our own", key.id, key.family))
	}
	tr.step("signature")
	if !turn.take() {
		return nil, nil, &Refusal{policy.ReasonOverloaded, "too many signatures are being verified"}
	}
	defer turn.done()
	payload, refusal := s.payload(token, key.algorithm, key.public)
	if refusal == nil {
		tr.found("verified by that key")
	}
	return payload, key, refusal
}

// payload has golang-jwt verify the signature by a key that is for the algorithm, and
// returns what it covers.
func (s *verifierState) payload(token, algorithm string, key any) ([]byte, *Refusal) {
	var p rawPayload
	_, err := s.parser.ParseWithClaims(token, &p, func(t *jwt.Token) (any, error) {
		// The header was read by us and is read by golang-jwt again: a key is handed
		// out only where the two agree.
		if t.Method.Alg() != algorithm {
			return nil, jwt.ErrTokenSignatureInvalid
		}
		return key, nil
	})
	switch {
	case err == nil:
		return p.text, nil
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, refuse("the signature is not ours")
	}
	return nil, refuse("malformed")
}

// judge holds the claims against the configuration and the clock. The two
// agree: golang-jwt's validator, and the checks that a cache repeats on each hit.
func (s *verifierState) judge(t *Token, c *claims, tr *trace) *Refusal {
	tr.step("issuer")
	if s.issuer != "" && c.issuer != s.issuer {
		return refuse("`iss` is not the configured issuer")
	}
	tr.step("audience")
	if s.audience != "" && !slices.Contains(c.audience, s.audience) {
		return refuse("`aud` does not name the configured audience")
	}
	tr.step("times")
	err := s.claims.Validate(c)
	switch reason := t.Check(s.now().UnixNano()); {
	case reason == policy.ReasonExpired:
		return &Refusal{policy.ReasonExpired, "`exp` has passed"}
	case reason != policy.ReasonOK:
		return refuse("`nbf` or `iat` lies in the future")
	case errors.Is(err, jwt.ErrTokenExpired):
		return &Refusal{policy.ReasonExpired, "`exp` has passed"}
	case err != nil:
		return refuse("the claims do not hold")
	}
	return nil
}
