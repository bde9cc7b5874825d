package suspicious

import (
	"strings"
	"unicode"
)

// isWide reports whether a name has a * or one of the wide words in it. Words end
// where names are joined (_ - . : /), at digits, and where a capital begins another:
// "posts:manage" and "manageUsers" hold "manage", "management" does not.
func (d *Detector) isWide(name string) bool {
	if strings.Contains(name, "*") {
		return true
	}
	for _, word := range words(name) {
		if d.wide[lower(word)] {
			return true
		}
	}
	return false
}

func lower(word string) string { return strings.ToLower(word) }

func words(name string) []string {
	var list []string
	runes := []rune(name)
	start := 0
	end := func(i int) {
		if i > start {
			list = append(list, string(runes[start:i]))
		}
	}
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r):
			end(i)
			start = i + 1
		case i > start && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end(i)
			start = i
		}
	}
	end(len(runes))
	return list
}
