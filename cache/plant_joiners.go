//go:build plant_joiners

package cache

const (
	plantStampEarly  = false
	plantJoinerBlind = true
	plantKeyBlind    = false
)

func plantedHistory(_, fresh *history) *history { return fresh }
