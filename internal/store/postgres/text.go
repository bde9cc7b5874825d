package postgres

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// isText reports whether Postgres can hold s: UTF-8 without zero bytes. Nothing
// in the database has another name, so a look-up need not ask.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}

func mustBeText(field, s string) error {
	if isText(s) {
		return nil
	}
	return fmt.Errorf("%s: %q holds a zero byte or is not UTF-8: the database cannot keep it", field, s)
}

// asText is s with what Postgres cannot hold replaced. What an outsider sent (a
// user agent) must not make a write fail.
func asText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
