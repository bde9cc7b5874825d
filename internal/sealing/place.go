package sealing

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnreadable is what every *Error is (errors.Is).
var ErrUnreadable = errors.New("a sealed value does not open")

// Place is where a sealed value lies. A value sealed for one place opens in no
// other.
type Place struct {
	Table  string
	Column string
	Row    int64 // the row's id
	// Bound is what else of the row the value belongs to and what never changes
	// under it, such as its tenant and its role: "7 user 12". It holds no newline.
	Bound string
}

// header is the first line of what is sealed.
func (p Place) header() string {
	return p.Table + "." + p.Column + " " + strconv.FormatInt(p.Row, 10) + " " + p.Bound + "\n"
}

// Error says which value did not open, and why. It never holds the value.
type Error struct {
	Place Place
	Key   int64 // the id of the key that the row names
	Why   string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s.%s of row %d does not open: %s", e.Place.Table, e.Place.Column, e.Place.Row, e.Why)
}

// Is makes every Error an ErrUnreadable.
func (e *Error) Is(target error) bool { return target == ErrUnreadable }

// cut takes the header off a text that was opened, and says what is wrong where it
// is another place's.
func (p Place) cut(opened string) (text, why string) {
	text, ours := strings.CutPrefix(opened, p.header())
	if ours {
		return text, ""
	}
	first, _, _ := strings.Cut(opened, "\n")
	where, rest, _ := strings.Cut(first, " ")
	row, _, _ := strings.Cut(rest, " ")
	switch {
	case where != p.Table+"."+p.Column:
		return "", fmt.Sprintf("it was sealed as %s of row %s, and was moved here", where, row)
	case row != strconv.FormatInt(p.Row, 10):
		return "", fmt.Sprintf("it was sealed for row %s, and was moved here", row)
	}
	return "", "what it belongs to in its row was changed: the row was edited by other hands"
}
