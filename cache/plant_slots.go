//go:build plant_slots

package cache

import "portcullis/internal/store"

const (
	plantStampEarly  = false
	plantJoinerBlind = false
	plantKeyBlind    = false
)

func plantedHistory(old, fresh *history) *history {
	if old == nil {
		return fresh
	}
	fresh.floor = 0
	old.floor = 0
	for i := range old.slots {
		old.slots[i].Store(0)
	}
	old.learn(fresh.known[0])
	return old
}

func plantedDenials(_ *Cache, denied denials, changes []store.Change) denials {
	return denied.changed(changes)
}
