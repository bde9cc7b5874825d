package authdata

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzValues gives every reader of a column a value from another program's database:
// what comes back without a problem is what the column may hold, and a problem names
// the row and does not quote the value.
func FuzzValues(f *testing.F) {
	for _, seed := range []string{
		"", "alice", "alice@example.com", "editor\n", "\x00", "\xff", "1", "0", "true", "{}", "{", "2024-05-06 07:08:09.123456", "2024-05-06T07:08:09Z", "2024-05-06",
		"0000-01-01", "2024-05-06 07:08:09,5", strings.Repeat("a", 64), strings.Repeat("A", 64), strings.Repeat("0f", 32), tenantA, "12/3", "-9223372036854775808/0", "v2:AAAA", "<script>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		read := func(what string, reader func(f *fields) bool) {
			row := &fields{table: "auth_x", id: "7", names: []string{"c"}, values: []*string{&value}, yes: []string{"1"}, no: []string{"0", ""}}
			good := reader(row)
			switch {
			case row.err == nil && !good:
				t.Errorf("%s %q is taken", what, value)
			case row.err != nil && (row.err.Table != "auth_x" || row.err.ID != "7" || row.err.Column != "c" || row.err.Why == "" ||
				len(value) > 30 && strings.Contains(row.err.Error(), value)):
				t.Errorf("%s %q: %v", what, value, row.err)
			}
		}
		plain := func(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") && s == value }
		read("text", func(f *fields) bool { return plain(f.text("c")) })
		for what, class := range map[string]struct {
			p     pattern
			marks string
			most  int
		}{"user": {isUser, "_.@+-", 64}, "role": {isRole, "_-", 64}, "permission": {isPermission, "_-", 128}, "label": {isLabel, " _.-", 64}, "prefix": {isPrefix, "_", 12}} {
			read(what, func(f *fields) bool {
				s := f.name("c", class.p)
				return plain(s) && (s != "" || what == "label") && len(s) <= class.most &&
					strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"+class.marks) == ""
			})
		}
		read("document", func(f *fields) bool { return plain(f.document("c")) })
		read("boolean", func(f *fields) bool {
			return f.boolean("c") == (value == "1") && (value == "1" || value == "0" || value == "")
		})
		read("digest", func(f *fields) bool { sum := f.digest("c"); return hex.EncodeToString(sum[:]) == value })
		read("moment", func(f *fields) bool {
			at := f.moment("c")
			again, err := parseTime(at.Format("2006-01-02 15:04:05.999999999"))
			return err == nil && again.Equal(at) && at.Year() >= 1 && at.Year() <= 9999 && at.Location() == time.UTC
		})
		read("uuid", func(f *fields) bool { return len(f.name("c", isUUID)) == 36 && strings.ToLower(value) == value })
		if c, err := ParseCursor(value); err == nil {
			if again, err := ParseCursor(c.String()); err != nil || again != c {
				t.Errorf("cursor %q became %v and then %v: %v", value, c, again, err)
			}
		}
		if at, err := locate(value); err == nil && at == (location{}) {
			t.Errorf("location %q is nowhere", value)
		}
	})
}
