package storetest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// storesTimes stands in the model's marks and changes for times that are the store's
// to say.
const storesTimes = -1

// denied names an entry of the deny-list, whatever key its subject is under.
type denied struct {
	kind   store.DenyKind
	tenant store.TenantID
	issuer string
	value  string
	p      policy.Kind // of a subject
}

type denialModel struct {
	before, expires int64
	seq             int // order of creation
}

type familyModel struct {
	tenant       store.TenantID
	client, user string
	begun        int64
	access       []string // jtis of the access tokens
	revoked      bool
}

type tokenModel struct {
	family *familyModel
	used   bool
}

type signerModel struct {
	signs, retired bool
}

// tokensModel is what the model knows of tokens.
type tokensModel struct {
	denials map[denied]*denialModel
	made    int // entries that were ever made
	tokens  map[string]*tokenModel
	signers map[string]*signerModel
}

func newTokensModel() tokensModel {
	return tokensModel{denials: make(map[denied]*denialModel), tokens: make(map[string]*tokenModel), signers: make(map[string]*signerModel)}
}

func deniedBy(d store.NewDenial) denied {
	return denied{d.Kind, d.Tenant, d.Issuer, d.Value, d.Principal}
}

// mark is the entry as a sidecar holds it, with the tenant's key of the moment.
func (m *model) mark(d denied) store.DenyMark {
	n := store.NewDenial{Kind: d.kind, Tenant: d.tenant, Issuer: d.issuer, Value: d.value, Principal: d.p}
	var index store.Index
	if d.kind == store.DenySubject {
		index = m.index(d.tenant, principal{d.p, d.value})
	}
	mark := store.DenyMark{Digest: n.Digest(index), Tenant: d.tenant}
	if entry := m.denials[d]; entry != nil {
		mark.Before, mark.Expires = entry.before, entry.expires
	}
	return mark
}

// putDenial adds an entry, or makes the one that is there reach further.
func (m *model) putDenial(d denied, before, expires int64) []store.Change {
	entry := m.denials[d]
	switch {
	case entry == nil:
		m.made++
		entry = &denialModel{seq: m.made}
		m.denials[d] = entry
	case before != storesTimes && before <= entry.before && expires <= entry.expires:
		return nil
	}
	entry.before, entry.expires = max(before, entry.before), max(expires, entry.expires)
	if before == storesTimes {
		entry.before, entry.expires = storesTimes, storesTimes
	}
	return []store.Change{denialChange(d.tenant, m.mark(d))}
}

// revokeFamilies ends the families that a condition finds, and denies their access
// tokens.
func (m *model) revokeFamilies(tenant store.TenantID, which func(f *familyModel) bool) []store.Change {
	var jtis []string
	for _, token := range m.tokens {
		if f := token.family; f.tenant == tenant && !f.revoked && which(f) {
			f.revoked = true
			jtis = append(jtis, f.access...)
		}
	}
	slices.Sort(jtis)
	var changes []store.Change
	for _, jti := range jtis {
		access := accessOf(jti, expiry)
		d := access.DenyAccess(tenant)
		changes = append(changes, m.putDenial(deniedBy(d), 0, d.Expires.UnixNano())...)
	}
	return changes
}

func (m *model) deny(d store.NewDenial) verdict {
	before := int64(0)
	if d.Kind == store.DenySubject {
		before = d.Before.UnixNano()
	}
	changes := m.putDenial(deniedBy(d), before, d.Expires.UnixNano())
	if d.Kind == store.DenySubject && d.Principal == policy.KindUser {
		reach := time.Unix(0, m.denials[deniedBy(d)].before).Truncate(time.Second).Add(time.Second).UnixNano()
		changes = append(changes, m.revokeFamilies(d.Tenant, func(f *familyModel) bool { return f.user == d.Value && f.begun < reach })...)
	}
	if len(changes) == 0 {
		return unchanged
	}
	return did(changes...)
}

func (m *model) allow(d denied) verdict {
	if m.denials[d] == nil {
		return verdict{}
	}
	change := denialGone(d.tenant, m.mark(d))
	delete(m.denials, d)
	return did(change)
}

// rekey puts the tenant under another key, and its denied subjects with it.
func (m *model) rekey(tenant store.TenantID, key store.KeyID) []store.Change {
	subjects := slices.DeleteFunc(slices.Collect(maps.Keys(m.denials)), func(d denied) bool { return d.tenant != tenant || d.kind != store.DenySubject })
	slices.SortFunc(subjects, func(a, b denied) int { return cmp.Compare(m.denials[a].seq, m.denials[b].seq) })
	former := make([]store.DenyMark, len(subjects))
	for i, d := range subjects {
		former[i] = m.mark(d)
	}
	m.tenants[tenant].key = key
	var changes []store.Change
	for i, d := range subjects {
		changes = append(changes, denialGone(tenant, former[i]), denialChange(tenant, m.mark(d)))
	}
	return changes
}

func (m *model) startFamily(f *familyModel, token string) verdict {
	m.tokens[token] = &tokenModel{family: f}
	return did()
}

// useRefresh replaces a token by the next one. reused says that the store found it used.
func (m *model) useRefresh(token, next string, reused bool) verdict {
	t := m.tokens[token]
	if t == nil || t.family.revoked || t.used != reused {
		return verdict{}
	}
	if reused {
		return did(m.revokeFamilies(t.family.tenant, func(f *familyModel) bool { return f == t.family })...)
	}
	t.used = true
	t.family.access = append(t.family.access, next)
	m.tokens[next] = &tokenModel{family: t.family}
	return did()
}

func (m *model) revokeRefresh(token string) verdict {
	t := m.tokens[token]
	if t == nil {
		return verdict{}
	}
	if t.family.revoked {
		return unchanged
	}
	return did(m.revokeFamilies(t.family.tenant, func(f *familyModel) bool { return f == t.family })...)
}

var signingChanged = store.Change{Kind: store.ChangeSigning}

func (m *model) publish(kid string) verdict {
	if m.signers[kid] != nil {
		return unchanged
	}
	m.signers[kid] = &signerModel{}
	return did(signingChanged)
}

func (m *model) signWith(kid string) verdict {
	key, others := m.signers[kid], false
	if key == nil {
		return verdict{}
	}
	for id, other := range m.signers {
		others = others || id != kid && other.signs && !other.retired
	}
	if !others && key.signs && !key.retired {
		return unchanged
	}
	for _, other := range m.signers {
		other.retired = other.signs
	}
	key.signs, key.retired = true, false
	return did(signingChanged)
}

func (m *model) withdraw(kid string) verdict {
	if m.signers[kid] == nil {
		return verdict{}
	}
	delete(m.signers, kid)
	return did(signingChanged)
}

// checkDenied compares what a full load denies.
func (r *replay) checkDenied(got []store.DenyMark) {
	want := make(map[store.Digest]store.DenyMark)
	for d := range r.model.denials {
		mark := r.model.mark(d)
		want[mark.Digest] = mark
	}
	for _, mark := range got {
		w, there := want[mark.Digest]
		if w.Before == storesTimes && mark.Before > 0 && mark.Expires > mark.Before {
			w.Before, w.Expires = mark.Before, mark.Expires
		}
		if !there || mark != w {
			r.Errorf("at %d: denied %v, want %v (%v)", r.now, mark, w, there)
		}
		delete(want, mark.Digest)
	}
	if len(want) > 0 {
		r.Errorf("at %d: a full load lacks the denials %v", r.now, want)
	}
}

func (r *replay) checkSigners(got []store.SigningKey) {
	want := maps.Clone(r.model.signers)
	for _, key := range got {
		w := want[key.KeyID]
		if w == nil || w.signs == key.Signs.IsZero() || w.retired == key.Expires.IsZero() || key.JWK != signerOf(key.KeyID).JWK {
			r.Errorf("at %d: signing key %+v, want %+v", r.now, key, w)
		}
		delete(want, key.KeyID)
	}
	if len(want) > 0 {
		r.Errorf("at %d: the signing keys %v are left out", r.now, slices.Collect(maps.Keys(want)))
	}
}

// sawToken is a refresh token that was read while nothing was committed.
func sawToken(token string, at store.Revision, got store.RefreshToken, there bool) observation {
	return observation{"refresh token", at, func(r *replay) {
		want := r.model.tokens[token]
		if !there || want == nil {
			if there || want != nil {
				r.Errorf("at %d: refresh token %+v (%v), want %+v", r.now, got, there, want)
			}
			return
		}
		f := want.family
		if got.Used.IsZero() == want.used || got.Revoked.IsZero() == f.revoked || got.Tenant != f.tenant || got.Client != f.client || got.User != f.user || got.Created.UnixNano() != f.begun {
			r.Errorf("at %d: refresh token %+v, want %+v of %+v", r.now, got, want, f)
		}
	}}
}

// sameButTimes compares changes; storesTimes in what is wanted are any.
func sameButTimes(got, want []store.Change) bool {
	want = slices.Clone(want)
	for i := range want {
		if want[i].Before == storesTimes && i < len(got) && got[i].Before > 0 && got[i].Expires > got[i].Before {
			want[i].Before, want[i].Expires = got[i].Before, got[i].Expires
		}
	}
	return sameChanges(got, want)
}
