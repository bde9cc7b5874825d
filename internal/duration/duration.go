// Package duration reads and writes lengths of time as people give them: Go
// durations that may begin with whole days, such as "90d" and "1d12h".
package duration

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Parse reads a length of time, which must be more than nothing.
func Parse(text string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is no duration: write it like 15m, 12h, 90d or 1d12h", text)
	rest := text
	var total time.Duration
	if days, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, wrong
		}
		total, rest = time.Duration(n)*day, after
	}
	if rest != "" || text == "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || d > math.MaxInt64-total {
			return 0, wrong
		}
		total += d
	}
	if total <= 0 {
		return 0, fmt.Errorf("%q is no time at all: it must be more than zero", text)
	}
	return total, nil
}

// Format writes what Parse reads, in the shortest form.
func Format(d time.Duration) string {
	days, rest := d/day, d%day
	text := ""
	if days > 0 {
		text = strconv.FormatInt(int64(days), 10) + "d"
	}
	if rest == 0 && text != "" {
		return text
	}
	clock := rest.String() // 1h30m0s
	if short, ok := strings.CutSuffix(clock, "m0s"); ok {
		clock = short + "m"
	}
	if short, ok := strings.CutSuffix(clock, "h0m"); ok {
		clock = short + "h"
	}
	return text + clock
}
