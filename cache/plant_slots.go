//go:build plant_slots

package cache

const (
	plantStampEarly  = false
	plantJoinerBlind = false
	plantSlotsZero   = true
)
