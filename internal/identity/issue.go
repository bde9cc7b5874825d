package identity

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// ErrNoSecret is returned by NewIssuer where there is nothing to sign with.
var ErrNoSecret = errors.New("no token secret: set AUTH_JWT_SECRET_KEY")

// IssuerConfig configures an Issuer.
type IssuerConfig struct {
	// Secret is the HMAC key, 32 bytes at least. It is copied.
	Secret []byte
	// Algorithm is HS256 (the default), HS384 or HS512.
	Algorithm string
	// Issuer and Audience become `iss` and `aud` where set.
	Issuer, Audience string
	// Now is the clock; time.Now where it is nil.
	Now func() time.Time
}

// MaxTokenLifetime bounds what Issue accepts.
const MaxTokenLifetime = 366 * 24 * time.Hour

// Issuer signs tokens of our own. It is safe for concurrent use.
type Issuer struct {
	// method and key sign. With HMAC the key is the secret; golang-jwt takes a
	// private key in the same place.
	method   jwt.SigningMethod
	key      any
	issuer   string
	audience string
	now      func() time.Time
}

// NewIssuer returns an Issuer. It returns ErrNoSecret where the secret is empty,
// and another error for a short one or an unknown algorithm.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
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
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Issuer{
		method:   jwt.GetSigningMethod(algorithm),
		key:      slices.Clone(cfg.Secret),
		issuer:   cfg.Issuer,
		audience: cfg.Audience,
		now:      cfg.Now,
	}, nil
}

// ownClaims is the payload of our own tokens.
type ownClaims struct {
	Issuer    string `json:"iss,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Subject   string `json:"sub"`
	Tenant    string `json:"tenant"`
	Kind      string `json:"kind"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
	ID        string `json:"jti"`

	// jwt.Claims asks for methods that only its validator calls.
	jwt.Claims `json:"-"`
}

// Issue signs a token that says that its bearer is p, from now and for ttl, which
// is one second to MaxTokenLifetime, rounded down to whole seconds. A principal
// that Verify would refuse is an error.
func (i *Issuer) Issue(p policy.Principal, ttl time.Duration) (string, error) {
	switch {
	case !ValidTenant(p.Tenant):
		return "", fmt.Errorf("tenant %q: want 1 to %d of letters, digits, _ . -", p.Tenant, MaxTenantSize)
	case p.Kind.String() == "":
		return "", errors.New("kind: want user, client or workload")
	case !validSubject(p.ID):
		return "", fmt.Errorf("subject %q: want 1 to %d visible ASCII characters", p.ID, MaxSubjectSize)
	case ttl < time.Second || ttl > MaxTokenLifetime:
		return "", fmt.Errorf("lifetime %v: want 1s to %v", ttl, MaxTokenLifetime)
	}
	var id [16]byte
	rand.Read(id[:])
	now := i.now().Unix()
	token := jwt.NewWithClaims(i.method, &ownClaims{
		Issuer:    i.issuer,
		Audience:  i.audience,
		Subject:   p.ID,
		Tenant:    p.Tenant,
		Kind:      p.Kind.String(),
		IssuedAt:  now,
		NotBefore: now,
		Expires:   now + int64(ttl/time.Second),
		ID:        base64.RawURLEncoding.EncodeToString(id[:]),
	})
	token.Header["typ"] = "at+jwt"
	signed, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}
