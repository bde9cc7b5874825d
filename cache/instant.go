package cache

import (
	"time"
)

// Instant is one reading of both clocks. Wall is Unix nanoseconds; it decides
// expiries. Mono is nanoseconds on a clock that never steps and, on a suspended
// machine, may stand still; it measures ages.
type Instant struct {
	Wall int64
	Mono int64
}

// Clock reads both clocks at once. It is safe for concurrent use.
type Clock func() Instant

// SystemClock reads the machine's clocks.
func SystemClock() Clock {
	start := time.Now()
	return func() Instant {
		now := time.Now()
		return Instant{Wall: now.UnixNano(), Mono: int64(now.Sub(start))}
	}
}

// clockDrift is how far wall and monotonic time may part since the last word
// from the store before the cache hears from it again: the machine slept, or
// somebody set its clock.
const clockDrift = int64(5 * time.Second)

// drifted reports whether the two clocks parted between a and b.
func drifted(a, b Instant) bool {
	d := (b.Wall - a.Wall) - (b.Mono - a.Mono)
	return d >= clockDrift || d <= -clockDrift
}
