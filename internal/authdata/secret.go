package authdata

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret holds a value that must not be shown: a tenant's raw client key, or the
// key of the field encryption. Formatting, logging and encoding give
// "[redacted]"; only Reveal gives the value. The zero Secret is not set.
type Secret struct {
	// A pointer, since package fmt prints the plain fields of a struct that is held
	// in an unexported field without asking its methods.
	value *string
}

// NewSecret wraps a value; "" is a Secret that is not set.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal returns the value, "" where it is not set.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String returns "[redacted]", or "" where the secret is not set.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return redacted
}

// Format serves every verb of package fmt, %x and %#v among them.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue serves log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText serves encoding/json and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
