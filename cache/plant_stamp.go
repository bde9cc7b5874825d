//go:build plant_stamp

package cache

const (
	plantStampEarly  = true
	plantJoinerBlind = false
	plantSlotsZero   = false
)
