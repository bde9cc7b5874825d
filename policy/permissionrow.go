package policy

import (
	"math/bits"
	"slices"
)

// permissionRow is the set of permissions of one role, by their numbers: a bit
// for each permission of the table, or a sorted list where that is smaller. A
// tenant with a role and some permissions for each of its projects has tens of
// thousands of both, and bits alone would take the product of the two.
type permissionRow struct {
	bits []uint64
	list []int32
}

// packRow copies a set of bits into a row.
func packRow(set []uint64) permissionRow {
	count := 0
	for _, word := range set {
		count += bits.OnesCount64(word)
	}
	if count*4 >= len(set)*8 {
		return permissionRow{bits: slices.Clone(set)}
	}
	list := make([]int32, 0, count)
	for i, word := range set {
		for ; word != 0; word &= word - 1 {
			list = append(list, int32(i*64+bits.TrailingZeros64(word)))
		}
	}
	return permissionRow{list: list}
}

// has reports whether the permission is in the row.
func (r *permissionRow) has(permission int32) bool {
	if r.bits != nil {
		return r.bits[permission/64]&(1<<(permission%64)) != 0
	}
	_, ok := slices.BinarySearch(r.list, permission)
	return ok
}

// addTo sets the row's permissions in a set of bits.
func (r *permissionRow) addTo(set []uint64) {
	for i, word := range r.bits {
		set[i] |= word
	}
	for _, permission := range r.list {
		set[permission/64] |= 1 << (permission % 64)
	}
}
