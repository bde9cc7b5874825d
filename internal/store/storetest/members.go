package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

var kinds = []policy.Kind{policy.KindUser, policy.KindClient, policy.KindWorkload}

func testMembers(t *testing.T, h Harness) {
	t.Run("a grant is the memberships, as at the head", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor", "viewer", "admin")
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", time.Time{}))
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "viewer", expiry))
		row := must[store.GrantRow](k)(k.Grant(k.ctx, k.tenant, policy.KindUser, "alice"))
		want := policy.Grant{
			{Role: k.roleID(k.tenant, "editor")},
			{Role: k.roleID(k.tenant, "viewer"), Expires: expiry.UnixNano()},
		}
		if !slices.Equal(row.Grant, want) || row.Revision != k.head() {
			t.Errorf("grant %v as at %v, want %v as at %v", row.Grant, row.Revision, want, k.head())
		}
		k.done(k.RemoveMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor"))
		if got := k.grant(k.tenant, policy.KindUser, "alice"); !slices.Equal(got, want[1:]) {
			t.Errorf("grant %v after a removal, want %v", got, want[1:])
		}
	})

	t.Run("kinds are apart", func(t *testing.T) {
		k := newKit(t, h)
		for _, kind := range kinds {
			role := "of-" + kind.String()
			k.role(k.tenant, role)
			k.done(k.AddMember(k.ctx, k.by, k.tenant, kind, "ci", role, time.Time{}))
		}
		for _, kind := range kinds {
			if got, want := k.names(k.tenant, kind, "ci"), []string{"of-" + kind.String()}; !slices.Equal(got, want) {
				t.Errorf("%s ci holds %v, want %v", kind, got, want)
			}
			for _, other := range kinds {
				has := must[bool](k)(k.HasRole(k.ctx, k.tenant, kind, "ci", "of-"+other.String(), time.Now()))
				if has != (kind == other) {
					t.Errorf("%s ci in the role of a %s: %v", kind, other, has)
				}
			}
		}
		k.done(k.RemoveMember(k.ctx, k.by, k.tenant, policy.KindUser, "ci", "of-user"))
		if got := k.names(k.tenant, policy.KindClient, "ci"); len(got) != 1 {
			t.Errorf("removing the user left the client with %v", got)
		}
	})

	t.Run("expiry is a moment, and what has expired is still listed", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor")
		past := inMicroseconds(time.Now().Add(-time.Hour))
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", past))
		for at, want := range map[time.Time]bool{
			past.Add(-time.Microsecond): true,
			past:                        false,
			past.Add(time.Microsecond):  false,
			time.Now():                  false,
		} {
			if has := must[bool](k)(k.HasRole(k.ctx, k.tenant, policy.KindUser, "alice", "editor", at)); has != want {
				t.Errorf("%v from the expiry: %v, want %v", at.Sub(past), has, want)
			}
		}
		want := policy.Grant{{Role: k.roleID(k.tenant, "editor"), Expires: past.UnixNano()}}
		if got := k.grant(k.tenant, policy.KindUser, "alice"); !slices.Equal(got, want) {
			t.Errorf("grant %v, want the expired membership in it: %v", got, want)
		}
		list := must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, "editor"))
		if len(list) != 1 || !list[0].Expires.Equal(past) {
			t.Errorf("list %v, want alice until %v", list, past)
		}
		// Renewed.
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "alice", "editor", time.Time{}))
		if !must[bool](k)(k.HasRole(k.ctx, k.tenant, policy.KindUser, "alice", "editor", time.Now())) {
			t.Error("renewed for good, and no member")
		}
		if got := k.grant(k.tenant, policy.KindUser, "alice"); len(got) != 1 || got[0].Expires != 0 {
			t.Errorf("grant %v after renewal", got)
		}
	})

	t.Run("the list is by kind, then by id", func(t *testing.T) {
		k := newKit(t, h)
		k.role(k.tenant, "editor", "viewer")
		for _, m := range []struct {
			kind policy.Kind
			id   string
		}{
			{policy.KindWorkload, "cart"}, {policy.KindUser, "bob"}, {policy.KindClient, "ci"}, {policy.KindUser, "Bob"},
			{policy.KindUser, "alice"}, {policy.KindUser, "b-ob"}, {policy.KindClient, "alice"},
		} {
			k.done(k.AddMember(k.ctx, k.by, k.tenant, m.kind, m.id, "editor", time.Time{}))
		}
		k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, "carol", "viewer", time.Time{}))
		var got []string
		for _, m := range must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, "editor")) {
			if m.Role != "editor" {
				t.Errorf("member of %q in the list of editors", m.Role)
			}
			got = append(got, fmt.Sprint(m.Kind, ":", m.ID))
		}
		want := []string{"user:Bob", "user:alice", "user:b-ob", "user:bob", "client:alice", "client:ci", "workload:cart"}
		if !slices.Equal(got, want) {
			t.Errorf("list %q, want %q", got, want)
		}
	})

	t.Run("ids are kept to the byte", func(t *testing.T) {
		k := newKit(t, h)
		names := hostile()
		for i, id := range names {
			role := fmt.Sprint("role", i)
			k.role(k.tenant, role)
			k.done(k.AddMember(k.ctx, k.by, k.tenant, policy.KindUser, id, role, time.Time{}))
		}
		seen := make(map[store.Index]string)
		for i, id := range names {
			if got, want := k.names(k.tenant, policy.KindUser, id), []string{fmt.Sprint("role", i)}; !slices.Equal(got, want) {
				t.Errorf("%q holds %v, want %v", id, got, want)
			}
			list := must[[]store.Member](k)(k.MemberList(k.ctx, k.tenant, fmt.Sprint("role", i)))
			if len(list) != 1 || list[0].ID != id {
				t.Errorf("member %q is listed as %v", id, list)
			}
			index := k.index(k.tenant, policy.KindUser, id)
			if other, dup := seen[index]; dup {
				t.Errorf("%q and %q have one index", id, other)
			}
			seen[index] = id
		}
	})

	t.Run("an index is the same on every handle and in every process", func(t *testing.T) {
		k := newKit(t, h)
		if a, b := k.index(k.tenant, policy.KindUser, "alice"), k.second().index(k.tenant, policy.KindUser, "alice"); a != b {
			t.Errorf("index %x here, %x there", a, b)
		}
	})
}
