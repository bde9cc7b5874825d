package storetest

import (
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
)

func signerOf(id string) store.SigningKey {
	return store.SigningKey{KeyID: id, Algorithm: "EdDSA", JWK: `{"kty":"OKP","crv":"Ed25519","x":"` + id + `"}`}
}

func (k *kit) signers() []store.SigningKey {
	k.Helper()
	return must[[]store.SigningKey](k)(k.SigningKeyList(k.ctx))
}

// wantSigningTold: the write told of the signing keys, and readers get all of them.
func (k *kit) wantSigningTold(before store.Revision, r store.Result, want ...string) {
	k.Helper()
	d := k.delta(before)
	change := []store.Change{{Revision: r.Revision.Number, Kind: store.ChangeSigning}}
	if !sameChanges(d.Changes, change) {
		k.Errorf("changes %v, want %v", d.Changes, change)
	}
	for what, keys := range map[string][]store.SigningKey{"delta": d.Signing, "full load": k.base().Signing} {
		var ids []string
		for _, key := range keys {
			ids = append(ids, key.KeyID)
		}
		if !slices.Equal(ids, want) {
			k.Errorf("%s carries %v, want %v", what, ids, want)
		}
	}
	entries, _ := k.audit(0)
	if len(entries) == 0 || entries[0].Revision != r.Revision.Number {
		k.Errorf("audit of no tenant %+v lacks the write at %d", entries, r.Revision.Number)
	}
}

func testSigningKeys(t *testing.T, h Harness) {
	until := inMicroseconds(time.Now().Add(time.Hour))
	t.Run("published, signing, retired, withdrawn", func(t *testing.T) {
		k := newKit(t, h)
		before := k.head()
		r := k.done(k.PublishSigningKey(k.ctx, k.by, signerOf("a")))
		k.wantSigningTold(before, r, "a")
		if got := k.signers()[0]; !got.Signs.IsZero() || !got.Expires.IsZero() || got.JWK != signerOf("a").JWK || got.Algorithm != "EdDSA" {
			t.Errorf("published %+v", got)
		}
		k.done(k.SignWith(k.ctx, k.by, "a", time.Time{}))
		k.done(k.PublishSigningKey(k.ctx, k.by, signerOf("b")))
		before = k.head()
		r = k.done(k.SignWith(k.ctx, k.by, "b", until))
		k.wantSigningTold(before, r, "a", "b")
		list := k.signers()
		if len(list) != 2 || list[0].Signs.IsZero() || !list[0].Expires.Equal(until) || list[1].Signs.IsZero() || !list[1].Expires.IsZero() {
			t.Errorf("list %+v: b signs, and a verifies until %v", list, until)
		}
		before = k.head()
		r = k.done(k.WithdrawSigningKey(k.ctx, k.by, "a"))
		k.wantSigningTold(before, r, "b")
		if d := k.delta(k.head()); d.Signing != nil {
			t.Errorf("a reader at the head is told %v", d.Signing)
		}
	})

	t.Run("one id has one key, and what is not there does not sign", func(t *testing.T) {
		k := newKit(t, h)
		k.done(k.PublishSigningKey(k.ctx, k.by, signerOf("a")))
		r, err := k.PublishSigningKey(k.ctx, k.by, signerOf("a"))
		if err != nil || r.Outcome != store.OutcomeUnchanged {
			t.Errorf("again: outcome %q, error %v", r.Outcome, err)
		}
		before, rows := k.head(), k.allAudit(0)
		other := signerOf("a")
		other.JWK = signerOf("b").JWK
		_, err = k.PublishSigningKey(k.ctx, k.by, other)
		k.wantErr(err, store.ErrExists)
		_, err = k.SignWith(k.ctx, k.by, "b", until)
		k.wantErr(err, store.ErrNotFound)
		_, err = k.WithdrawSigningKey(k.ctx, k.by, "b")
		k.wantErr(err, store.ErrNotFound)
		if k.head() != before || k.allAudit(0) != rows || len(k.signers()) != 1 || k.signers()[0].JWK != signerOf("a").JWK {
			t.Errorf("refusals left %+v at %v, were at %v", k.signers(), k.head(), before)
		}
	})

	t.Run("pruning deletes what has expired, with a revision where there was one", func(t *testing.T) {
		k := newKit(t, h)
		for _, id := range []string{"a", "b"} {
			k.done(k.PublishSigningKey(k.ctx, k.by, signerOf(id)))
			k.done(k.SignWith(k.ctx, k.by, id, inMicroseconds(time.Now().Add(-time.Hour))))
		}
		if base := k.base(); len(base.Signing) != 1 || base.Signing[0].KeyID != "b" || len(k.signers()) != 2 {
			t.Errorf("a full load has %+v, the list %+v: the expired key is in the list alone", base.Signing, k.signers())
		}
		before := k.head()
		if err := k.PruneSigningKeys(k.ctx, k.by); err != nil {
			t.Fatal(err)
		}
		k.wantSigningTold(before, store.Result{Revision: k.head()}, "b")
		before = k.head()
		if err := k.PruneSigningKeys(k.ctx, k.by); err != nil || k.head() != before || len(k.signers()) != 1 {
			t.Errorf("again: error %v, head %v after %v, %+v", err, k.head(), before, k.signers())
		}
	})
}
