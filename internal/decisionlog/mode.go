package decisionlog

import (
	"fmt"
	"math"
	"strconv"
)

// Mode says which decisions are logged. The zero Mode logs none.
type Mode uint8

// The modes of AUTH_DECISION_LOG.
const (
	Off    Mode = iota // none
	Denied             // denials and faults
	All                // all
	Sample             // denials and faults, and a share of the allowed ones
)

// String returns "off", "denied", "all" or "sample".
func (m Mode) String() string {
	switch m {
	case Denied:
		return "denied"
	case All:
		return "all"
	case Sample:
		return "sample"
	}
	return "off"
}

// ParseMode reads the value of AUTH_DECISION_LOG: off, denied, all, or a share of
// the allowed decisions from 0 to 1, which is mode Sample with that rate.
func ParseMode(s string) (mode Mode, rate float64, err error) {
	switch s {
	case "off":
		return Off, 0, nil
	case "denied":
		return Denied, 0, nil
	case "all":
		return All, 0, nil
	}
	rate, err = strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(rate) || rate < 0 || rate > 1 {
		return Off, 0, fmt.Errorf("%q: want off, denied, all, or a sampling rate from 0 to 1", s)
	}
	return Sample, rate, nil
}
