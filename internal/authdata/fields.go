package authdata

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// maxText bounds one value, in bytes, so that no row can take all memory.
const maxText = 1 << 20

// fields reads the values of one row. It keeps the first problem, and an
// unreadable value outranks an invalid one.
type fields struct {
	row     Row
	table   string // with id, the row that errors name: of a link, at times one of its sides
	id      string
	creator string
	keys    *keyring
	yes, no []string // the database's words for booleans

	names  []string
	values []*string
	err    *RowError
}

func (f *fields) fail(kind Kind, column, why string) {
	if f.err == nil || f.err.Kind == Invalid && kind != Invalid {
		f.err = &RowError{Kind: kind, Table: f.table, ID: f.id, Column: column, Why: why, Cursor: f.row.Cursor}
	}
}

// of makes errors name another row.
func (f *fields) of(table, id string) { f.table, f.id = table, id }

// raw returns a column's text, nil for NULL.
func (f *fields) raw(column string) *string {
	for i, name := range f.names {
		if name == column {
			return f.values[i]
		}
	}
	panic("authdata: column " + column + " was not selected")
}

// bytes returns a column's text whatever it holds, but not endless; "" for NULL.
func (f *fields) bytes(column string) string {
	v := f.raw(column)
	if v == nil {
		return ""
	}
	if len(*v) > maxText {
		f.fail(Unreadable, column, fmt.Sprintf("is longer than %d bytes", maxText))
		return ""
	}
	return *v
}

// text is free text.
func (f *fields) text(column string) string { return f.checked(column, f.bytes(column), nil) }

// name is text that must match.
func (f *fields) name(column string, p pattern) string { return f.checked(column, f.bytes(column), p) }

// sealed is text that may be encrypted; without p it is free text.
func (f *fields) sealed(column string, p pattern) string {
	value := f.bytes(column)
	plain, err := f.keys.open(f.creator, value)
	switch {
	case err != nil:
		f.fail(Unreadable, column, err.Error())
		return ""
	case f.keys == nil && looksSealed(value, p):
		f.fail(Unreadable, column, errSealed.Error())
		return ""
	}
	return f.checked(column, plain, p)
}

func (f *fields) checked(column, value string, p pattern) string {
	switch {
	case !utf8.ValidString(value):
		f.fail(Invalid, column, "is not valid UTF-8")
	case strings.IndexByte(value, 0) >= 0:
		f.fail(Invalid, column, "holds a NUL")
	case p == nil || p(value):
	case value == "":
		f.fail(Invalid, column, "is empty")
	default:
		f.fail(Invalid, column, "is not what Auth's API accepts here: it is too long or holds other characters")
	}
	return value
}

// document is JSON text, or "".
func (f *fields) document(column string) string {
	value := f.text(column)
	if value != "" && !json.Valid([]byte(value)) {
		f.fail(Invalid, column, "is not JSON")
	}
	return value
}

// boolean is false for NULL, as it is to Auth. A text such as 'true' in SQLite is
// an error: Auth compares with 1, so it takes the text for false, and whoever
// wrote it meant the opposite.
func (f *fields) boolean(column string) bool { return f.booleanOf(column, column) }

// booleanOf is boolean for a value that has another name than its column.
func (f *fields) booleanOf(value, column string) bool {
	v := f.raw(value)
	if v == nil {
		return false
	}
	for _, word := range f.yes {
		if *v == word {
			return true
		}
	}
	for _, word := range f.no {
		if *v == word {
			return false
		}
	}
	f.fail(Unreadable, column, "is no boolean of Auth's: set it to 1 or 0")
	return false
}

// digest is a SHA-256 in lower-case hexadecimal. Upper case never matched in
// Auth, and must not begin to.
func (f *fields) digest(column string) (sum [32]byte) {
	v := f.bytes(column)
	if len(v) != hex.EncodedLen(len(sum)) || strings.ToLower(v) != v {
		f.fail(Unreadable, column, "is no SHA-256 in 64 lower-case hexadecimal digits")
		return sum
	}
	if _, err := hex.Decode(sum[:], []byte(v)); err != nil {
		f.fail(Unreadable, column, "is no SHA-256 in 64 lower-case hexadecimal digits")
	}
	return sum
}

// maybeTime is nil for NULL.
func (f *fields) maybeTime(column string) *time.Time {
	v := f.raw(column)
	if v == nil {
		return nil
	}
	t, err := parseTime(*v)
	if err != nil {
		f.fail(Unreadable, column, err.Error())
		return nil
	}
	return &t
}

// moment is a time that must be there.
func (f *fields) moment(column string) time.Time {
	t := f.maybeTime(column)
	if t == nil {
		f.fail(Unreadable, column, "is NULL")
		return time.Time{}
	}
	return *t
}

// timeLayouts are what SQLAlchemy and Postgres write, and isoformat in Python. A
// fraction may follow the seconds in each. Without a zone it is UTC.
var timeLayouts = [...]string{
	"2006-01-02 15:04:05", "2006-01-02T15:04:05",
	"2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07",
	"2006-01-02 15:04", "2006-01-02",
}

var errTime = errors.New("is no time: Auth writes 2024-05-06 07:08:09.123456, in the years 1 to 9999")

func parseTime(s string) (time.Time, error) {
	if strings.Contains(s, ",") { // Go takes it for a decimal point
		return time.Time{}, errTime
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
				return time.Time{}, errTime
			}
			return t, nil
		}
	}
	return time.Time{}, errTime
}
