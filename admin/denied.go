package admin

import (
	"context"
	"time"

	"portcullis/cache"
	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// verifyToken verifies a JWT and asks the deny-list. live is false for a token that
// the gate would refuse, for whatever reason.
func (a *API) verifyToken(c *call, text string) (t *cache.Token, live bool, err error) {
	if len(text) > identity.MaxTokenSize {
		return nil, false, nil
	}
	t, reason := a.cfg.Cache.Token([]byte(text), c.began)
	switch {
	case reason == policy.ReasonOverloaded:
		return nil, false, errOverloaded
	case reason.Effect() == policy.Fault:
		return nil, false, unready(reason)
	case reason != policy.ReasonOK:
		return nil, false, nil
	}
	s := a.cfg.Cache.Snapshot()
	if s == nil {
		return nil, false, unready(policy.ReasonNoSnapshot)
	}
	tenant, ok := s.Tenant(t.Principal.Tenant)
	if !ok {
		return nil, false, nil
	}
	denied, err := a.tokenDenied(c.Context(), tenant.ID, t.Token)
	return t, err == nil && !denied, err
}

// denyPage is how many entries of the deny-list are read at once.
const denyPage = 1000

// tokenDenied reads the deny-list in the store: it is asked for few tokens, at the
// OAuth endpoints alone, and must know what was denied a moment ago by another
// process.
func (a *API) tokenDenied(ctx context.Context, tenant store.TenantID, t *identity.Token) (bool, error) {
	denied, err := a.anyDenial(ctx, 0, func(d *store.Denial) bool {
		return t.KeyID != "" && d.Kind == store.DenyKey && d.Issuer == t.Issuer && d.Value == t.KeyID
	})
	if err != nil || denied {
		return denied, err
	}
	issuer := t.Issuer
	if t.Principal.Kind != policy.KindUser {
		issuer = ""
	}
	return a.anyDenial(ctx, tenant, func(d *store.Denial) bool {
		if d.Kind == store.DenyToken {
			return t.ID != "" && d.Issuer == t.Issuer && d.Value == t.ID
		}
		return marks(d, t.Principal.Kind, t.Principal.ID, issuer) &&
			(!t.HasIssuedAt || t.IssuedAt/int64(time.Second) <= d.Before.Unix())
	})
}

// familyDenied reports whether a mark on its user or its client is younger than the
// family: what was denied until then must not come back by a refresh.
func (a *API) familyDenied(ctx context.Context, f *store.RefreshFamily) (bool, error) {
	return a.anyDenial(ctx, f.Tenant, func(d *store.Denial) bool {
		return (marks(d, policy.KindUser, f.User, a.cfg.Tokens.Name) || marks(d, policy.KindClient, f.Client, "")) &&
			f.Created.Unix() <= d.Before.Unix()
	})
}

func marks(d *store.Denial, kind policy.Kind, id, issuer string) bool {
	return d.Kind == store.DenySubject && d.Principal == kind && d.Value == id && d.Issuer == issuer
}

func (a *API) anyDenial(ctx context.Context, tenant store.TenantID, is func(*store.Denial) bool) (bool, error) {
	for after := int64(0); ; {
		page, err := a.cfg.Store.DenialList(ctx, tenant, after, denyPage)
		if err != nil {
			return false, err
		}
		for i := range page {
			if is(&page[i]) {
				return true, nil
			}
		}
		if len(page) < denyPage {
			return false, nil
		}
		after = page[len(page)-1].ID
	}
}
