package identity

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// What NewIssuer returns where there is nothing to sign with.
var (
	ErrNoSecret     = errors.New("no token secret: set AUTH_JWT_SECRET_KEY")
	ErrNoPrivateKey = errors.New("no private key: set AUTH_JWT_PRIVATE_KEY")
)

// IssuerConfig configures an Issuer.
type IssuerConfig struct {
	// Secret is the HMAC key, 32 bytes at least. It is copied.
	Secret []byte
	// Algorithm is HS256 (the default), HS384 or HS512, and then Secret signs; or RS256,
	// ES256 or EdDSA, and then the first of Keys that is for it does.
	Algorithm string
	// Keys are the private keys that may be made to sign, each with its own algorithm.
	Keys []*PrivateKey
	// Issuer and Audience become `iss` and `aud` where set. RFC 9068 asks for both.
	Issuer, Audience string
	// Now is the clock; time.Now where it is nil.
	Now func() time.Time
}

// MaxTokenLifetime bounds what Issue accepts. A denial of our own tokens stands for as
// long (store.OwnTokenReach), so a token may not outlive it.
const MaxTokenLifetime = 24 * time.Hour

// MaxClientIDSize bounds `client_id`, in bytes: a tenant, a slash and a key's name.
const MaxClientIDSize = MaxTenantSize + 1 + MaxSubjectSize

// Issuer signs tokens of our own. It is safe for concurrent use.
type Issuer struct {
	keys     []*PrivateKey
	signer   atomic.Pointer[signer]
	issuer   string
	audience string
	now      func() time.Time
}

// signer is what signs. It is immutable.
type signer struct {
	method jwt.SigningMethod
	key    any    // the secret, or a private key
	keyID  string // "" with a secret
}

func (k *PrivateKey) asSigner() *signer {
	held := k.held()
	return &signer{held.method, held.signer, held.public.KeyID}
}

// NewIssuer returns an Issuer. It returns ErrNoSecret or ErrNoPrivateKey where there
// is nothing that the algorithm signs with, and another error for a short secret, an
// unknown algorithm, or keys none of which is for it.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	i := &Issuer{keys: slices.Clone(cfg.Keys), issuer: cfg.Issuer, audience: cfg.Audience, now: cfg.Now}
	if slices.Contains(OwnAlgorithms(), cfg.Algorithm) {
		key, err := SigningKey(cfg.Keys, cfg.Algorithm)
		if err != nil {
			return nil, err
		}
		i.signer.Store(key.asSigner())
		return i, nil
	}
	algorithm, err := hmacAlgorithm(cfg.Algorithm)
	if err != nil {
		return nil, err
	}
	switch {
	case len(cfg.Secret) == 0:
		return nil, ErrNoSecret
	case len(cfg.Secret) < MinSecretSize:
		return nil, fmt.Errorf("token secret has %d bytes: want %d at least", len(cfg.Secret), MinSecretSize)
	}
	i.signer.Store(&signer{method: jwt.GetSigningMethod(algorithm), key: slices.Clone(cfg.Secret)})
	return i, nil
}

// SigningKey returns the first of the keys that is for the algorithm. The error says
// what the keys are for instead; for no keys it is ErrNoPrivateKey.
func SigningKey(keys []*PrivateKey, algorithm string) (*PrivateKey, error) {
	if len(keys) == 0 {
		return nil, ErrNoPrivateKey
	}
	var others []string
	for _, k := range keys {
		if k.Algorithm() == algorithm {
			return k, nil
		}
		others = append(others, k.String())
	}
	return nil, fmt.Errorf("it holds no key for %s, but %s", algorithm, strings.Join(others, " and "))
}

// SetSigner makes the private key of this id sign from now on, with its own algorithm.
// An id that none of the configured keys has is an error, and changes nothing. Make
// sure first that every verifier has its public half.
func (i *Issuer) SetSigner(keyID string) error {
	at := slices.IndexFunc(i.keys, func(k *PrivateKey) bool { return k.KeyID() == keyID })
	if at < 0 {
		return fmt.Errorf("no private key %q: AUTH_JWT_PRIVATE_KEY has %d others", keyID, len(i.keys))
	}
	i.signer.Store(i.keys[at].asSigner())
	return nil
}

// Signer says what signs now: the key's id ("" with a secret) and its algorithm.
func (i *Issuer) Signer() (keyID, algorithm string) {
	s := i.signer.Load()
	return s.keyID, s.method.Alg()
}

// ownClaims is the payload of our own tokens.
type ownClaims struct {
	Issuer    string `json:"iss,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Subject   string `json:"sub"`
	ClientID  string `json:"client_id,omitempty"`
	Tenant    string `json:"tenant"`
	Kind      string `json:"kind"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	ID        string `json:"jti"`

	// jwt.Claims asks for methods that only its validator calls.
	jwt.Claims `json:"-"`
}

// TokenRequest asks for a token.
type TokenRequest struct {
	// Principal is who the bearer is. One that Verify would refuse is an error.
	Principal policy.Principal
	// Lifetime is one second to MaxTokenLifetime, rounded down to whole seconds.
	Lifetime time.Duration
	// ClientID is the client that asked for the token (RFC 9068), such as
	// `tenant/name`; "" where none is known. It has at most MaxClientIDSize visible
	// ASCII characters.
	ClientID string
}

// IssuedToken is a token that was signed, with what its issuer may want to keep.
type IssuedToken struct {
	// Text is the token itself: a credential.
	Text string
	// ID is its `jti`, KeyID the key that signed it, "" with a secret.
	ID, KeyID string
	// IssuedAt and Expires are Unix nanoseconds, at whole seconds.
	IssuedAt, Expires int64
}

// Issue signs a token that says that its bearer is p, from now and for ttl, as
// IssueToken does.
func (i *Issuer) Issue(p policy.Principal, ttl time.Duration) (string, error) {
	issued, err := i.IssueToken(TokenRequest{Principal: p, Lifetime: ttl})
	return issued.Text, err
}

// IssueToken signs an access token in the form of RFC 9068.
func (i *Issuer) IssueToken(r TokenRequest) (IssuedToken, error) {
	p := r.Principal
	switch {
	case !ValidTenant(p.Tenant):
		return IssuedToken{}, fmt.Errorf("tenant %q: want 1 to %d of letters, digits, _ . -", p.Tenant, MaxTenantSize)
	case p.Kind.String() == "":
		return IssuedToken{}, errors.New("kind: want user, client or workload")
	case !validSubject(p.ID):
		return IssuedToken{}, fmt.Errorf("subject %q: want 1 to %d visible ASCII characters", p.ID, MaxSubjectSize)
	case r.ClientID != "" && !visibleASCII(r.ClientID, MaxClientIDSize):
		return IssuedToken{}, fmt.Errorf("client id %q: want 1 to %d visible ASCII characters", r.ClientID, MaxClientIDSize)
	case r.Lifetime < time.Second || r.Lifetime > MaxTokenLifetime:
		return IssuedToken{}, fmt.Errorf("lifetime %v: want 1s to %v", r.Lifetime, MaxTokenLifetime)
	}
	var id [16]byte
	rand.Read(id[:])
	now := i.now().Unix()
	c := &ownClaims{
		Issuer:    i.issuer,
		Audience:  i.audience,
		Subject:   p.ID,
		ClientID:  r.ClientID,
		Tenant:    p.Tenant,
		Kind:      p.Kind.String(),
		IssuedAt:  now,
		NotBefore: now,
		Expires:   now + int64(r.Lifetime/time.Second),
		ID:        base64.RawURLEncoding.EncodeToString(id[:]),
	}
	s := i.signer.Load()
	token := jwt.NewWithClaims(s.method, c)
	token.Header["typ"] = "at+jwt"
	if s.keyID != "" {
		token.Header["kid"] = s.keyID
	}
	text, err := token.SignedString(s.key)
	if err != nil {
		return IssuedToken{}, fmt.Errorf("sign token: %w", err)
	}
	return IssuedToken{
		Text: text, ID: c.ID, KeyID: s.keyID,
		IssuedAt: c.IssuedAt * int64(time.Second), Expires: c.Expires * int64(time.Second),
	}, nil
}
