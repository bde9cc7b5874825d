package cache

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// token is a token of the model: what it says is what it is.
type token struct {
	tenant           store.TenantID
	kind             policy.Kind
	id               string
	issuer, jti, kid string
	issued           int64 // Unix nanoseconds, whole seconds; 0: no iat
	expires          int64
}

func (k token) raw() string { return fmt.Sprintf("%#v", k) }

// mint makes tokens that ring knows by their text.
func (k token) mint(ring *keyring) string {
	ring.mu.Lock()
	defer ring.mu.Unlock()
	ring.tokens[k.raw()] = k
	return k.raw()
}

// keyring is a verifier of the model's tokens by the signing keys that the cache
// hands it.
type keyring struct {
	mu     sync.Mutex
	tokens map[string]token
	keys   map[string]bool
	given  int
}

func newKeyring() *keyring { return &keyring{tokens: map[string]token{}} }

func (r *keyring) SetKeys(keys []identity.PublicKey) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.given++
	r.keys = map[string]bool{}
	for _, k := range keys {
		r.keys[k.KeyID] = true
	}
	return nil
}

func (r *keyring) Verify(raw string) (*identity.Token, policy.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.tokens[raw]
	if !ok || !r.keys[k.kid] {
		return nil, policy.ReasonInvalidToken
	}
	name := modelTenants[k.tenant-1].Name
	return &identity.Token{
		Principal: policy.Principal{Tenant: name, Kind: k.kind, ID: k.id},
		Issuer:    k.issuer, ID: k.jti, KeyID: k.kid, IssuedAt: k.issued, HasIssuedAt: k.issued != 0, Expires: k.expires,
	}, policy.ReasonOK
}

func (r *keyring) Current(t *identity.Token) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys[t.KeyID]
}

// denialName is what an entry of the deny-list is about.
type denialName struct {
	kind      store.DenyKind
	tenant    store.TenantID
	issuer    string
	value     string
	principal policy.Kind
}

func (s *state) denialDigest(n denialName) store.Digest {
	switch n.kind {
	case store.DenyToken:
		return store.DenyTokenDigest(n.tenant, n.issuer, n.value)
	case store.DenySubject:
		return store.DenySubjectDigest(n.tenant, s.index(n.tenant, n.principal, n.value), n.issuer)
	}
	return store.DenyKeyDigest(n.issuer, n.value)
}

// denied lists the marks for a full load, which says whose they are only sometimes.
func (s *state) denials() []store.DenyMark {
	var out []store.DenyMark
	for n, m := range s.denied {
		m.Digest = s.denialDigest(n)
		if s.revision.Number%2 == 0 {
			m.Tenant = n.tenant
		}
		out = append(out, m)
	}
	return out
}

func (s *state) signingKeys() []store.SigningKey {
	var out []store.SigningKey
	for kid := range s.signing {
		out = append(out, store.SigningKey{KeyID: kid})
	}
	return out
}

// deny adds an entry, or makes the one that is there reach further.
func (w *world) deny(n denialName, before, expires int64) {
	w.commit(func(s *state) {
		was := s.denied[n]
		m := store.DenyMark{Before: max(before, was.Before), Expires: max(expires, was.Expires)}
		s.denied[n] = m
		m.Digest = s.denialDigest(n)
		s.changes = append(s.changes, store.Change{Kind: store.ChangeDenial, Tenant: n.tenant, Digest: m.Digest, Before: m.Before, Expires: m.Expires})
	})
}

// allow takes an entry away.
func (w *world) allow(n denialName) {
	w.commit(func(s *state) {
		if _, ok := s.denied[n]; !ok {
			return
		}
		delete(s.denied, n)
		s.changes = append(s.changes, store.Change{Kind: store.ChangeDenial, Tenant: n.tenant, Digest: s.denialDigest(n), Gone: true})
	})
}

// renameSubjects writes the tenant's subject entries anew, for indexes that became
// others since old.
func (s *state) renameSubjects(t store.TenantID, old *state) {
	for n, m := range s.denied {
		if n.kind != store.DenySubject || n.tenant != t {
			continue
		}
		s.changes = append(s.changes,
			store.Change{Kind: store.ChangeDenial, Tenant: t, Digest: old.denialDigest(n), Gone: true},
			store.Change{Kind: store.ChangeDenial, Tenant: t, Digest: s.denialDigest(n), Before: m.Before, Expires: m.Expires})
	}
}

func (w *world) setSigning(kid string, has bool) {
	w.commit(func(s *state) {
		if s.signing[kid] == has {
			return
		}
		s.signing = maps.Clone(s.signing)
		if has {
			s.signing[kid] = true
		} else {
			delete(s.signing, kid)
		}
		s.changes = append(s.changes, store.Change{Kind: store.ChangeSigning})
	})
}

// takes reports whether the state takes a token, whatever its principal may do.
func (s *state) takes(k token, now int64) bool {
	if !s.signing[k.kid] || now >= k.expires || now < k.issued {
		return false
	}
	second := int64(time.Second)
	for n, m := range s.denied {
		if now >= m.Expires {
			continue
		}
		issuer := k.issuer
		if k.kind != policy.KindUser {
			issuer = ""
		}
		switch n.kind {
		case store.DenyToken:
			if n.tenant == k.tenant && n.issuer == k.issuer && n.value == k.jti && k.jti != "" {
				return false
			}
		case store.DenyKey:
			if n.issuer == k.issuer && n.value == k.kid {
				return false
			}
		case store.DenySubject:
			if n.tenant == k.tenant && n.principal == k.kind && n.value == k.id && n.issuer == issuer &&
				(k.issued == 0 || k.issued/second <= m.Before/second) {
				return false
			}
		}
	}
	return true
}
