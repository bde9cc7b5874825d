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
