//go:build !plant_stamp && !plant_joiners && !plant_slots

package cache

// The faults that the model test must catch, each compiled in by its own build
// tag and absent from every other build.
const (
	plantStampEarly  = false // stamp a value with a revision that was read before its rows
	plantJoinerBlind = false // trust a shared load that began too early
	plantSlotsZero   = false // leave floor and slots at 0 after a full load
)
