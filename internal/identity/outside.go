package identity

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portcullis/policy"
)

// outside verifies the tokens of one outside issuer as one version of the policy
// file describes it. It is safe for concurrent use.
type outside struct {
	entry   policy.Issuer
	source  *keySource
	claims  outsideClaims
	parser  *jwt.Parser
	judge   *jwt.Validator
	leeway  int64 // nanoseconds
	now     func() time.Time
	wait    time.Duration
	permits *permits
	metrics *issuerMetrics
	retired atomic.Bool // the policy no longer says so
}

func (v *Verifiers) newOutside(entry policy.Issuer, source *keySource) *outside {
	o := &outside{
		entry: entry, source: source,
		leeway: int64(DefaultLeeway), now: v.cfg.Now, wait: v.cfg.Wait, permits: v.permits, metrics: v.metrics,
	}
	o.claims = newOutsideClaims(&o.entry)
	options := []jwt.ParserOption{
		jwt.WithStrictDecoding(),
		jwt.WithValidMethods(entry.Algorithms),
		// The claims are judged after the signature, by the validator below.
		jwt.WithoutClaimsValidation(),
		jwt.WithTimeFunc(o.now),
		jwt.WithLeeway(DefaultLeeway),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithIssuer(entry.Name),
	}
	if !entry.SkipAudience {
		options = append(options, jwt.WithAudience(entry.Audiences...))
	}
	o.parser, o.judge = jwt.NewParser(options...), jwt.NewValidator(options...)
	return o
}

// current reports whether a token that was verified under a generation of the keys
// counts as verified still.
func (o *outside) current(generation uint64) bool {
	return !o.retired.Load() && o.source.set.Load().generation == generation
}

// verify verifies a token whose unverified `iss` is the entry's.
func (o *outside) verify(token string, tr *trace) (*Token, *Refusal) {
	deadline := time.NewTimer(o.wait)
	defer deadline.Stop()
	tr.step("header")
	header, refusal := readHeader(token, o.entry.Algorithms...)
	if refusal != nil {
		return nil, refusal
	}
	if tr != nil {
		tr.found("alg " + header.algorithm + ", one of " + strings.Join(o.entry.Algorithms, ", "))
	}
	tr.step("key")
	key, generation, refusal := o.findKey(header, deadline.C)
	if refusal != nil {
		return nil, refusal
	}
	if tr != nil {
		tr.found(fmt.Sprintf("kid %q, %s", key.id, key.family))
	}
	tr.step("signature")
	payload, refusal := o.payload(token, key, deadline.C)
	if refusal != nil {
		return nil, refusal
	}
	tr.found("verified by that key")
	tr.step("claims")
	c, refusal := o.claims.read(payload)
	if refusal != nil {
		return nil, refusal
	}
	if tr != nil {
		tr.found(fmt.Sprintf("user %q of tenant %q", c.subject, c.tenant))
		if len(c.roles) > 0 {
			tr.found(fmt.Sprintf("user %q of tenant %q, with roles %s", c.subject, c.tenant, strings.Join(c.roles, ", ")))
		}
	}
	t := &Token{
		Principal:   policy.Principal{Tenant: c.tenant, Kind: policy.KindUser, ID: c.subject},
		Roles:       c.roles,
		Issuer:      c.issuer,
		KeyID:       key.id,
		ID:          c.id,
		Generation:  generation,
		IssuedAt:    c.issuedAt,
		HasIssuedAt: c.hasIssued,
		NotBefore:   c.notBefore,
		Expires:     c.expires,
		leeway:      o.leeway,
		outside:     o,
	}
	if refusal := o.judgeClaims(t, c, tr); refusal != nil {
		return nil, refusal
	}
	return t, nil
}

// findKey finds the key that a header names, and the generation of the set that it
// is in. An unknown kid waits for the fetch that it may cause or join.
func (o *outside) findKey(h tokenHeader, deadline <-chan time.Time) (*verifyKey, uint64, *Refusal) {
	set := o.source.keys()
	key, match := set.find(h.keyID, h.algorithm)
	for again := true; again && (match == keyUnknown || match == keyVague && len(set.keys) == 0); {
		fetch, joined := o.source.seek(h.keyID)
		if fetch == nil {
			return nil, 0, refuse("`kid` names no key of the issuer, and a fetch is not due")
		}
		select {
		case <-fetch.done:
		case <-deadline:
			// The key may be on its way: the caller should come again, not log in again.
			return nil, 0, &Refusal{policy.ReasonOverloaded, "the issuer's keys are being fetched"}
		}
		set = o.source.keys()
		key, match = set.find(h.keyID, h.algorithm)
		if match == keyUnknown && fetch.good && !joined {
			o.source.unknown(h.keyID)
		}
		again = joined
	}
	switch match {
	case keyFound:
		return key, set.generation, nil
	case keyUnfit:
		return nil, 0, refuse("`kid` names a key that is not for this `alg`")
	case keyVague:
		return nil, 0, refuse("no `kid`, and not exactly one key of the issuer is for this `alg`")
	}
	if len(set.keys) == 0 {
		return nil, 0, refuse("no key of the issuer could be had")
	}
	return nil, 0, refuse("`kid` names no key of the issuer")
}

// payload has golang-jwt verify the signature, in its turn, and returns what it
// covers.
func (o *outside) payload(token string, key *verifyKey, deadline <-chan time.Time) ([]byte, *Refusal) {
	if !o.permits.acquire(deadline) {
		o.metrics.shed.Inc()
		return nil, &Refusal{policy.ReasonOverloaded, "too many signatures are being verified"}
	}
	defer o.permits.release()
	var p rawPayload
	_, err := o.parser.ParseWithClaims(token, &p, func(*jwt.Token) (any, error) { return key.public, nil })
	switch {
	case err == nil:
		return p.text, nil
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, refuse("the signature is not the issuer's")
	}
	return nil, refuse("malformed")
}

// judgeClaims holds the claims against the entry and the clock. The two agree:
// golang-jwt's validator, and the checks that a cache repeats on each hit.
func (o *outside) judgeClaims(t *Token, c *claims, tr *trace) *Refusal {
	tr.step("issuer")
	if c.issuer != o.entry.Name {
		return refuse("`iss` is not the issuer's")
	}
	tr.step("audience")
	if !o.entry.SkipAudience && !slices.ContainsFunc(c.audience, func(a string) bool { return slices.Contains(o.entry.Audiences, a) }) {
		return refuse("`aud` names none of the entry's audiences")
	}
	tr.step("times")
	now := o.now().UnixNano()
	err := o.judge.Validate(c)
	switch reason := t.Check(now); {
	case reason == policy.ReasonExpired, reason == policy.ReasonOK && errors.Is(err, jwt.ErrTokenExpired):
		return &Refusal{policy.ReasonExpired, "`exp` has passed"}
	case reason != policy.ReasonOK:
		return refuse("`nbf` or `iat` lies in the future")
	case err != nil:
		return refuse("the claims do not hold")
	}
	tr.step("age")
	began := c.issuedAt
	if began == 0 {
		began = now
	}
	if c.expires-began > int64(o.entry.MaxTokenAge) {
		return refuse("it lives longer than max_token_age")
	}
	return nil
}
