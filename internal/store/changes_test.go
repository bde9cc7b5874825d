package store

import (
	"reflect"
	"testing"
)

// A tenant whose key changes is told with all its principals, each thing once, in
// the order in which it was recorded.
func TestTenantGrantsOfAChangeSet(t *testing.T) {
	var c ChangeSet
	for range 2 {
		c.Tenant(7)
		c.TenantGrants(7)
	}
	c.TenantGrants(8)
	want := []Change{
		{Revision: 5, Kind: ChangeTenant, Tenant: 7},
		{Revision: 5, Kind: ChangeTenantGrants, Tenant: 7},
		{Revision: 5, Kind: ChangeTenantGrants, Tenant: 8},
	}
	if got := c.Rows(5); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Beside more principals than are listed, a tenant that is named as a whole is named
// at least once, and no principal is left unnamed.
func TestTenantGrantsBesideManyPrincipals(t *testing.T) {
	for _, many := range []int{1, MaxGrantChanges, MaxGrantChanges + 1} {
		var c ChangeSet
		c.TenantGrants(7)
		for i := range many {
			c.Grant(TenantID(7+i%2), Index{byte(i), byte(i >> 8)})
		}
		whole, grants := map[TenantID]bool{}, 0
		for _, row := range c.Rows(5) {
			switch row.Kind {
			case ChangeTenantGrants:
				whole[row.Tenant] = true
			case ChangeGrant:
				grants++
			}
		}
		listed := many
		if many > MaxGrantChanges {
			listed = 0
		}
		if !whole[7] || grants != listed || whole[8] != (many > MaxGrantChanges) {
			t.Errorf("%d principals: whole tenants %v, %d named", many, whole, grants)
		}
	}
}

// An entry of the deny-list is told with all that a sidecar holds of it; taken away
// it is its digest alone, and the signing keys are of no tenant.
func TestDenialsOfAChangeSet(t *testing.T) {
	var c ChangeSet
	old, current := Digest{1}, Digest{2}
	for range 2 {
		c.DenialGone(7, old)
		c.Denial(7, DenyMark{Digest: current, Before: 30, Expires: 40})
		c.Signing()
	}
	want := []Change{
		{Revision: 5, Kind: ChangeDenial, Tenant: 7, Digest: old, Gone: true},
		{Revision: 5, Kind: ChangeDenial, Tenant: 7, Digest: current, Before: 30, Expires: 40},
		{Revision: 5, Kind: ChangeSigning},
	}
	if got := c.Rows(5); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An entry that reaches further is another change, not the one that was recorded.
func TestADenialThatReachesFurtherIsToldAgain(t *testing.T) {
	var c ChangeSet
	c.Denial(7, DenyMark{Digest: Digest{1}, Before: 30, Expires: 40})
	c.Denial(7, DenyMark{Digest: Digest{1}, Before: 31, Expires: 40})
	c.Denial(7, DenyMark{Digest: Digest{1}, Before: 31, Expires: 41})
	rows := c.Rows(5)
	if len(rows) != 3 || rows[2].Before != 31 || rows[2].Expires != 41 {
		t.Errorf("got %v, want three rows, the furthest last", rows)
	}
}

// Denials are never folded into their tenant: a sidecar would lose them.
func TestDenialsBesideManyPrincipals(t *testing.T) {
	var c ChangeSet
	for i := range MaxGrantChanges + 1 {
		c.Grant(7, Index{byte(i), byte(i >> 8)})
		c.DenialGone(7, Digest{byte(i), byte(i >> 8)})
	}
	denials := 0
	for _, row := range c.Rows(5) {
		if row.Kind == ChangeDenial {
			denials++
		}
	}
	if denials != MaxGrantChanges+1 {
		t.Errorf("%d denials, want %d", denials, MaxGrantChanges+1)
	}
}
