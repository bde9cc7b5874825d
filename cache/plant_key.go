//go:build plant_key

package cache

const (
	plantStampEarly  = false
	plantJoinerBlind = false
	plantKeyBlind    = true
)

func plantedHistory(_, fresh *history) *history { return fresh }
