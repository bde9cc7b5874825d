package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// aCancelled is a kind of write that is cut off: do makes the n-th of its kind, and
// there reports whether all that it writes is there, or nothing of it: another answer
// ends the test.
type aCancelled struct {
	name  string
	given func(k *kit, n int)
	do    func(ctx context.Context, k *kit, n int) (store.Result, error)
	there func(k *kit, n int) []bool
}

// cancelled are writes of one table and of many.
var cancelled = []aCancelled{
	{"a member", func(*kit, int) {}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		return k.AddMember(ctx, k.by, k.tenant, policy.KindUser, fmt.Sprint("user", n), "editor", time.Time{})
	}, func(k *kit, n int) []bool {
		return []bool{len(k.grant(k.tenant, policy.KindUser, fmt.Sprint("user", n))) == 1}
	}},
	{"a use of a refresh token", func(k *kit, n int) {
		k.done(k.StartFamily(k.ctx, k.by, numbered(k, n), digestOf(fmt.Sprint("first ", n)), accessOf("a", expiry)))
	}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		_, r, err := k.UseRefresh(ctx, k.by, k.tenant, "app", digestOf(fmt.Sprint("first ", n)), digestOf(fmt.Sprint("next ", n)), accessOf("b", expiry))
		return r, err
	}, func(k *kit, n int) []bool {
		first := must[store.RefreshToken](k)(k.Refresh(k.ctx, digestOf(fmt.Sprint("first ", n))))
		_, err := k.Refresh(k.ctx, digestOf(fmt.Sprint("next ", n)))
		return []bool{!first.Used.IsZero(), err == nil}
	}},
	{"an entry that ends refresh tokens", func(k *kit, n int) {
		f := numbered(k, n)
		f.User = fmt.Sprint("denied", n)
		k.done(k.StartFamily(k.ctx, k.by, f, digestOf(fmt.Sprint("first ", n)), accessOf(fmt.Sprint("jti ", n), expiry)))
	}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		_, r, err := k.Deny(ctx, k.by, denyUser(k.tenant, fmt.Sprint("denied", n), expiry, expiry))
		return r, err
	}, func(k *kit, n int) []bool {
		first := must[store.RefreshToken](k)(k.Refresh(k.ctx, digestOf(fmt.Sprint("first ", n))))
		return []bool{!first.Revoked.IsZero(), k.holds(denyUser(k.tenant, fmt.Sprint("denied", n), expiry, expiry)),
			k.holds(denyToken(k.tenant, fmt.Sprint("jti ", n), expiry.Add(store.TokenSkew)))}
	}},
	{"secrets of a client with refresh tokens", func(k *kit, n int) {
		f := numbered(k, n)
		f.Client = fmt.Sprint("client", n)
		k.newKey(k.tenant, f.Client, fmt.Sprint("secret ", n))
		k.done(k.StartFamily(k.ctx, k.by, f, digestOf(fmt.Sprint("first ", n)), accessOf(fmt.Sprint("jti ", n), expiry)))
	}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		_, r, err := k.RevokeKeys(ctx, k.by, k.tenant, fmt.Sprint("client", n))
		return r, err
	}, func(k *kit, n int) []bool {
		first := must[store.RefreshToken](k)(k.Refresh(k.ctx, digestOf(fmt.Sprint("first ", n))))
		return []bool{!first.Revoked.IsZero(), !k.key(fmt.Sprint("secret ", n)).Revoked.IsZero(),
			k.holds(denyToken(k.tenant, fmt.Sprint("jti ", n), expiry.Add(store.TokenSkew)))}
	}},
	{"another secret", func(k *kit, n int) {
		k.newKey(k.tenant, "ci", fmt.Sprint("former ", n))
	}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		_, r, err := k.RotateKey(ctx, k.by, rotationOf(k.tenant, fmt.Sprint("former ", n), fmt.Sprint("later ", n), fmt.Sprint("try ", n), 0))
		return r, err
	}, func(k *kit, n int) []bool {
		_, _, err := k.Replay(k.ctx, digestOf(fmt.Sprint("try ", n)))
		return []bool{!k.key(fmt.Sprint("former ", n)).Revoked.IsZero(), k.key(fmt.Sprint("later ", n)) != nil, err == nil}
	}},
	{"another signing key", func(k *kit, n int) {
		k.done(k.PublishSigningKey(k.ctx, k.by, signerOf(fmt.Sprint("kid ", n))))
	}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		return k.SignWith(ctx, k.by, fmt.Sprint("kid ", n), expiry)
	}, func(k *kit, n int) []bool {
		var others int
		signs := false
		for _, key := range k.signers() {
			switch {
			case key.KeyID == fmt.Sprint("kid ", n):
				signs = !key.Signs.IsZero()
			case !key.Signs.IsZero() && key.Expires.IsZero():
				others++
			}
		}
		if signs && others > 0 {
			k.Errorf("%d other keys sign for good beside kid %d", others, n)
		}
		return []bool{signs}
	}},
	{"a tenant with its key", func(*kit, int) {}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		_, r, err := k.OpenTenant(ctx, k.by, store.NewTenant{Name: fmt.Sprint("opened", n)}, keyOf(0, "ci", fmt.Sprint("opener ", n)))
		return r, err
	}, func(k *kit, n int) []bool {
		_, err := k.TenantByName(k.ctx, fmt.Sprint("opened", n))
		return []bool{err == nil, k.key(fmt.Sprint("opener ", n)) != nil}
	}},
	{"a batch of an import", func(*kit, int) {}, func(ctx context.Context, k *kit, n int) (store.Result, error) {
		role := fmt.Sprint("imported ", n)
		_, r, err := k.Import(ctx, k.by, "source", store.ImportBatch{
			Roles:       []store.ImportRole{{Tenant: k.tenant, Name: role}},
			Permissions: []store.ImportPermission{{Tenant: k.tenant, Role: role, Name: "p"}},
			Members:     []store.ImportMember{{Tenant: k.tenant, User: role, Role: role}},
		}, role, false)
		return r, err
	}, func(k *kit, n int) []bool {
		role := fmt.Sprint("imported ", n)
		cursor, _, err := k.ImportCursor(k.ctx, "source")
		return []bool{len(must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, role))) == 1, err == nil && cursor == role,
			must[bool](k)(k.HasPermission(k.ctx, k.tenant, role, "p"))}
	}},
}

// numbered is a family of its own for each n.
func numbered(k *kit, n int) store.RefreshFamily {
	f := familyOf(k.tenant, byte(n), expiry)
	f.Family[1] = byte(n >> 8)
	return f
}

// holds reports whether a full load carries the entry.
func (k *kit) holds(d store.NewDenial) bool {
	k.Helper()
	want := k.markOf(d)
	for _, m := range k.base().Denied {
		if m == want {
			return true
		}
	}
	return false
}

// testCancelWrites: a write whose context ends somewhere in it is whole or nothing, and
// its error says which.
func testCancelWrites(h Harness) func(*testing.T) {
	return func(t *testing.T) {
		for _, c := range cancelled {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				k := newKit(t, h)
				k.role(k.tenant, "editor")
				// How long a write takes here, so that the deadlines fall inside it.
				took, n := callTimeout, 0
				for ; n < 3; n++ {
					c.given(k, n)
					start := time.Now()
					k.done(c.do(k.ctx, k, n))
					took = min(took, time.Since(start))
				}
				done, failed, reach := 0, 0, 2*took
				for ; n < 40; n++ {
					c.given(k, n)
					head, rows := k.head(), h.Count(t, k.Store, "SELECT count(*) FROM audit")
					ctx, cancel := context.WithTimeout(k.ctx, rand.N(reach))
					r, err := c.do(ctx, k, n)
					cancel()
					now, after := k.head(), h.Count(t, k.Store, "SELECT count(*) FROM audit")
					switch {
					case err == nil && now == r.Revision && now.Number == head.Number+1 && after == rows+1:
						done++
						reach -= reach / 8 // so that as many are cut off as not
					case err != nil && now == head && after == rows:
						failed++
						reach += reach / 8
					default:
						t.Fatalf("write %d: error %v, returned %v; head was %v and is %v, audit rows %d and %d", n, err, r.Revision, head, now, rows, after)
					}
					for i, there := range c.there(k, n) {
						if there != (err == nil) {
							t.Fatalf("write %d: error %v, and part %d of it is there: %v", n, err, i, there)
						}
					}
				}
				t.Logf("%d done, %d given up", done, failed)
			})
		}
	}
}
