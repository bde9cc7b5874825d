//go:build plant_joiners

package cache

const (
	plantStampEarly  = false
	plantJoinerBlind = true
	plantSlotsZero   = false
)
