package authdata

// pattern tells whether a text is one that Auth's API accepts for a column.
// Auth's own checks let a line end pass behind a name; these do not.
type pattern func(string) bool

func isUser(s string) bool       { return within(s, 64, "_.@+-") }
func isRole(s string) bool       { return within(s, 64, "_-") }
func isPermission(s string) bool { return within(s, 128, "_-") }
func isLabel(s string) bool      { return s == "" || within(s, 64, " _.-") }
func isPrefix(s string) bool     { return within(s, 12, "_") }

// within reports whether s is 1 to most ASCII letters, digits and bytes of more.
func within(s string, most int, more string) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			found := false
			for j := range len(more) {
				found = found || more[j] == c
			}
			if !found {
				return false
			}
		}
	}
	return true
}

// isUUID takes the dashed form in lower case, of any version: Auth lower-cases a
// key before it looks for it, so no other form ever opened anything.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
