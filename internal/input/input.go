// Package input says what free text from outside may hold: descriptions, labels and
// what is shown back to people. Names have their own rules, classes of characters,
// where they are read. What AUTH_STRICT_INPUT refuses beyond both is here too.
package input

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDescription bounds a description, in bytes.
const MaxDescription = 1000

// Line checks free text of one line: valid UTF-8, at most so many bytes, no control
// characters, none that a reader does not see (direction marks, zero-width
// characters), no script tag. The error says what is wrong and the mend, and quotes
// nothing of the text; the caller puts the field's name before it.
func Line(text string, most int) error {
	switch {
	case len(text) > most:
		return fmt.Errorf("has %d bytes: use at most %d", len(text), most)
	case !utf8.ValidString(text):
		return errors.New("is not valid UTF-8: send it in that encoding")
	case strings.ContainsFunc(text, Unseen):
		return errors.New("holds a line break, a control character or an invisible one: write it in one line of plain text")
	case HasScriptTag(text):
		return errors.New("holds a script tag: leave it out")
	}
	return nil
}

// Unseen reports whether a reader or a terminal would obey the character instead of
// showing it: controls, line and paragraph separators, direction marks, zero-width
// characters.
func Unseen(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// HasScriptTag reports whether the text holds the beginning of a script tag, opening
// or closing, in any case and width, with blanks wherever somebody might put them.
func HasScriptTag(text string) bool {
	for rest := narrow(text); ; {
		_, after, found := strings.Cut(rest, "<")
		if !found {
			return false
		}
		rest = after
		name := strings.TrimLeftFunc(after, func(r rune) bool { return r == '/' || unicode.IsSpace(r) || Unseen(r) })
		if len(name) >= len("script") && strings.EqualFold(firstRunes(name, len("script")), "script") {
			return true
		}
	}
}

// firstRunes is the text's beginning, of n characters where it has as many.
func firstRunes(text string, n int) string {
	for i := range text {
		if n == 0 {
			return text[:i]
		}
		n--
	}
	return text
}

// narrow makes ASCII of the full-width forms: some databases and browsers take the
// one for the other.
func narrow(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '！' && r <= '～' {
			return r - '！' + '!'
		}
		return r
	}, text)
}
