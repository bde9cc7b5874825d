package store

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// ExpiryNanos is an expiry as the database and a Grant hold it: Unix
// nanoseconds, 0 for never. A time that does not fit is refused: cut off, it
// would come back as another time, or as never.
func ExpiryNanos(expires time.Time) (int64, error) {
	if expires.IsZero() {
		return 0, nil
	}
	if !expires.After(time.Unix(0, 0)) || expires.After(time.Unix(0, math.MaxInt64)) {
		return 0, fmt.Errorf("expires: %s is outside the years 1970 to 2262: give a time within them, or none for never", expires.UTC().Format(time.RFC3339))
	}
	return expires.UnixNano(), nil
}

// FromNanos is the time that ExpiryNanos wrote, in UTC; 0 is the zero time.
func FromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// JoinScopes writes scopes as one word each, in the order of AllScopes, each
// once. A scope outside AllScopes is refused.
func JoinScopes(scopes []Scope) (string, error) {
	held := make(map[Scope]bool, len(scopes))
	for _, s := range scopes {
		held[s] = true
	}
	var words []string
	for _, s := range AllScopes {
		if held[s] {
			words = append(words, string(s))
			delete(held, s)
		}
	}
	for s := range held {
		return "", fmt.Errorf("scopes: %q is no scope: use check, manage, keys, tokens, audit or operator", s)
	}
	return strings.Join(words, " "), nil
}

// SplitScopes reads what JoinScopes wrote.
func SplitScopes(text string) []Scope {
	var scopes []Scope
	for _, word := range strings.Fields(text) {
		scopes = append(scopes, Scope(word))
	}
	return scopes
}
