package input

import (
	"slices"
	"strings"
	"unicode"
)

// keywords begin or join SQL statements. Words that English cannot do without, such
// as from, where and table, are not among them: they do nothing by themselves.
var keywords = [...]string{
	"alter", "create", "declare", "delete", "drop", "exec", "execute", "grant", "insert",
	"merge", "revoke", "select", "truncate", "union", "update",
}

// Keywords lists what SQLKeyword finds, in alphabetical order.
func Keywords() []string { return slices.Clone(keywords[:]) }

// SQLKeyword returns the first SQL keyword that stands in the text as a whole word,
// in any case and width; "" if there is none. A word is letters, digits and `_`: drop
// is one in "drop-table" and "a.drop", and none in "drop_table" and "backdrop".
//
// No statement is ever built from input (internal/lint/sql), so this guards nothing
// here. It is for what reads the names after us.
func SQLKeyword(text string) string {
	for _, word := range strings.FieldsFunc(narrow(text), func(r rune) bool {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		for _, keyword := range keywords {
			if strings.EqualFold(word, keyword) {
				return keyword
			}
		}
	}
	return ""
}
