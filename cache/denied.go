package cache

import (
	"context"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Denied asks the deny-list about a token that was verified for a check at s:
// ReasonOK, or ReasonRevoked. t is the tenant of the token's principal, nil where it
// is not served; then only the key that signed the token can be denied. As with
// every look-up, the reason counts only with Found.
//
// Where a principal of the tenant is denied, the caller's index is needed, which the
// token keeps from then on; what stands in its way is what Grant's look-up of it
// ends with. It allocates nothing once that has been asked, and costs a branch or two where
// nothing is denied.
func (c *Cache) Denied(s *Snapshot, t *Tenant, token *Token, now Instant) (policy.Reason, Lookup) {
	if c.signing.Load() != s.signing {
		end := c.signingChanged(s, now)
		return end.Reason(policy.ReasonInternal), end
	}
	list := &s.denied
	if now.Wall < list.since {
		ctx, cancel := context.WithTimeout(context.Background(), c.remaining(now))
		defer cancel()
		end := c.catchUpFor(ctx, s.Revision.Number+1)
		return end.Reason(policy.ReasonInternal), end
	}
	if list.empty() {
		return policy.ReasonOK, Found
	}
	var tenant store.TenantID
	if t != nil {
		tenant = t.ID
	}
	digests := token.denyDigests(tenant)
	if token.KeyID != "" {
		if _, denied := list.get(digests.key, now.Wall); denied {
			return policy.ReasonRevoked, Found
		}
	}
	if t == nil {
		return policy.ReasonOK, Found
	}
	if token.ID != "" {
		if _, denied := list.get(digests.token, now.Wall); denied {
			return policy.ReasonRevoked, Found
		}
	}
	if !list.marksSubjects(t.ID) {
		return policy.ReasonOK, Found
	}
	p := &token.Principal
	index, end := c.index(s, t, p.Kind, p.ID, &token.Holder, now)
	if end != Found {
		return end.Reason(policy.ReasonInternal), end
	}
	if mark, denied := list.get(token.subjectDigest(t.ID, index), now.Wall); denied && token.issuedBy(mark.before) {
		return policy.ReasonRevoked, Found
	}
	return policy.ReasonOK, Found
}

// signingChanged is how a check ends whose token may have been judged by other
// signing keys than its snapshot's: it takes the snapshot again, once there is one.
func (c *Cache) signingChanged(s *Snapshot, now Instant) Lookup {
	if c.Snapshot().signing != s.signing {
		return Retake
	}
	// The keys have changed and the snapshot will at once: the sync under way ends.
	ctx, cancel := context.WithTimeout(context.Background(), c.remaining(now))
	defer cancel()
	select {
	case c.syncing <- struct{}{}:
		<-c.syncing
		return Retake
	case <-ctx.Done():
		return Unavailable
	}
}

// denyDigests are what is looked up for a token of a tenant.
type denyDigests struct {
	tenant     store.TenantID
	token, key store.Digest
}

// denyDigests computes the digests once, when something is denied for the first time
// in the token's life. Its tenant has another id only where a name came to be
// another tenant's.
func (t *Token) denyDigests(tenant store.TenantID) *denyDigests {
	if d := t.digests.Load(); d != nil && d.tenant == tenant {
		return d
	}
	d := &denyDigests{tenant: tenant, token: store.DenyTokenDigest(tenant, t.Issuer, t.ID), key: store.DenyKeyDigest(t.Issuer, t.KeyID)}
	t.digests.Store(d)
	return d
}

// heldSubject is the digest of a token's subject, by the index that it is made of.
type heldSubject struct {
	tenant store.TenantID
	index  store.Index
	digest store.Digest
}

// subjectDigest computes the digest once for each key of the tenant. The tokens of
// clients and workloads are ours, whatever their `iss`.
func (t *Token) subjectDigest(tenant store.TenantID, index store.Index) store.Digest {
	if h := t.subject.Load(); h != nil && h.tenant == tenant && h.index == index {
		return h.digest
	}
	issuer := t.Issuer
	if t.Principal.Kind != policy.KindUser {
		issuer = ""
	}
	h := &heldSubject{tenant, index, store.DenySubjectDigest(tenant, index, issuer)}
	t.subject.Store(h)
	return h.digest
}

// issuedBy reports whether the token cannot be shown to be younger than a moment, in
// Unix nanoseconds: `iat` has whole seconds, so the whole second of that moment is
// not younger.
func (t *Token) issuedBy(moment int64) bool {
	return !t.HasIssuedAt || t.IssuedAt/int64(time.Second) <= moment/int64(time.Second)
}
