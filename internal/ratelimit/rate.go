package ratelimit

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// MaxCount is the most that a Rate counts in one period.
const MaxCount = 1_000_000

// Rate is so many in a period. The zero Rate is no limit at all.
type Rate struct {
	Count  int           // 1 to MaxCount
	Period time.Duration // a second, a minute or an hour
}

// off is the text of the zero Rate.
const off = "off"

var errRate = errors.New("a rate is a count from 1 to 1000000, a slash, and s, m or h; or off")

// ParseRate reads "10/s", "6000/m", "100/h" or "off", and nothing else: no blanks, no
// sign, no leading zero. The error does not quote the text.
func ParseRate(text string) (Rate, error) {
	if text == off {
		return Rate{}, nil
	}
	digits, unit, ok := strings.Cut(text, "/")
	if !ok || digits == "" || digits[0] < '1' || digits[0] > '9' {
		return Rate{}, errRate
	}
	r := Rate{}
	switch unit {
	case "s":
		r.Period = time.Second
	case "m":
		r.Period = time.Minute
	case "h":
		r.Period = time.Hour
	default:
		return Rate{}, errRate
	}
	var err error
	if r.Count, err = strconv.Atoi(digits); err != nil || r.Count > MaxCount {
		return Rate{}, errRate
	}
	return r, nil
}

// Limits reports whether the rate is a limit.
func (r Rate) Limits() bool { return r.Count > 0 && r.Period > 0 }

// String is the text that ParseRate reads.
func (r Rate) String() string {
	if !r.Limits() {
		return off
	}
	unit := "s"
	switch r.Period {
	case time.Minute:
		unit = "m"
	case time.Hour:
		unit = "h"
	}
	return strconv.Itoa(r.Count) + "/" + unit
}

// step is how long it takes until there is one more, in nanoseconds, rounded up so
// that a period never has more than Count.
func (r Rate) step() int64 {
	return (int64(r.Period) + int64(r.Count) - 1) / int64(r.Count)
}
