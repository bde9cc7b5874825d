//go:build !plant_stamp && !plant_joiners && !plant_slots && !plant_key && !plant_denial

package cache

import "portcullis/internal/store"

// The faults that the model test must catch. Each is compiled in by its own build
// tag and absent from every other build.
const (
	plantStampEarly  = false // a value is stamped with a revision that was read before its rows
	plantJoinerBlind = false // a shared load that began too early is trusted
	plantKeyBlind    = false // an index is kept when its tenant gets another key
)

// plantedHistory is where a full load that keeps its history, with floor and
// slots left at 0, is planted.
func plantedHistory(_, fresh *history) *history { return fresh }

// plantedDenials is where denials that take effect after their revision was published
// are planted.
func plantedDenials(_ *Cache, denied denials, changes []store.Change) denials {
	return denied.changed(changes)
}
