package policy_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"portcullis/policy"
)

const (
	encodedSlash = policy.FlagEncodedSlash
	doubleSlash  = policy.FlagDoubleSlash
	semicolon    = policy.FlagSemicolon
	unsafe       = policy.FlagUnsafe
)

func TestCanonPath(t *testing.T) {
	tests := []struct {
		raw, want string
		flags     policy.PathFlags
	}{
		// Plain paths stay as they are; the query goes.
		{"/", "/", 0},
		{"/posts/42", "/posts/42", 0},
		{"/posts/", "/posts/", 0},
		{"/posts?page=2", "/posts", 0},
		{"/posts?a?b#c%zz;//../\\", "/posts", 0},
		{"/?", "/", 0},
		{"/Posts/A", "/Posts/A", 0},
		{"/a.b/.well-known/...", "/a.b/.well-known/...", 0},
		{"/a!$&'()*+,=:@~b", "/a!$&'()*+,=:@~b", 0},
		{"/{a}|^`\"<>[]", "/{a}|^`\"<>[]", 0},

		// Every encoding is decoded exactly once.
		{"/%61dmin", "/admin", 0},
		{"/%41%64", "/Ad", 0},
		{"/a%21b", "/a!b", 0},
		{"/a%3Fb?c", "/a?b", 0},
		{"/a%23b", "/a#b", 0},
		{"/auth0%7C65f", "/auth0|65f", 0},
		{"/a%20b", "/a b", 0},
		{"/%C3%A9", "/é", 0},
		{"/%c3%a9", "/é", 0},
		{"/100%25", "/100%", 0},
		{"/100%25/zz", "/100%/zz", 0},
		{"/a%25b", "/a%b", 0},
		{"/a%25bz", "/a%bz", 0},
		{"/a%25%2F", "/a%%2F", encodedSlash},

		// Ambiguities that a rule may take.
		{"/a%2fb", "/a%2Fb", encodedSlash},
		{"/a%2Fb", "/a%2Fb", encodedSlash},
		{"/a%2F", "/a%2F", encodedSlash},
		{"//", "//", doubleSlash},
		{"//admin", "//admin", doubleSlash},
		{"/a//b", "/a//b", doubleSlash},
		{"/a/%2Fb", "/a/%2Fb", doubleSlash | encodedSlash},
		{"/a%2F/b", "/a%2F/b", doubleSlash | encodedSlash},
		{"/a%2f%2Fb", "/a%2F%2Fb", doubleSlash | encodedSlash},
		{"/a;x=y", "/a;x=y", semicolon},
		{"/a%3Bx", "/a;x", semicolon},
		{"/a%3bx//%2f", "/a;x//%2F", semicolon | doubleSlash | encodedSlash},
		{"/a?b;c//d%2f", "/a", 0},

		// What no rule may take.
		{"", "", unsafe},
		{"?", "", unsafe},
		{"*", "*", unsafe},
		{"admin", "admin", unsafe},
		{"%2Fadmin", "%2Fadmin", unsafe | encodedSlash},
		{"http://a/b", "http://a/b", unsafe | doubleSlash},
		{"/a#b", "/a#b", unsafe},
		{"/a\\b", "/a\\b", unsafe},
		{"/a%5Cb", "/a\\b", unsafe},
		{"/a%5cb", "/a\\b", unsafe},
		{"/a b", "/a b", unsafe},
		{"/a\tb", "/a\tb", unsafe},
		{"/a\x00b", "/a\x00b", unsafe},
		{"/a\x7fb", "/a\x7fb", unsafe},
		{"/é", "/é", unsafe},
		{"/a\xffb", "/a\xffb", unsafe},
		{"/a%00b", "/a\x00b", unsafe},
		{"/a%0Ab", "/a\nb", unsafe},
		{"/a%1fb", "/a\x1fb", unsafe},
		{"/a%7Fb", "/a\x7fb", unsafe},
		{"/%", "/%", unsafe},
		{"/%4", "/%4", unsafe},
		{"/%zz", "/%zz", unsafe},
		{"/%4?1", "/%4", unsafe},
		{"/%u0041", "/%u0041", unsafe},
		{"/%-1a", "/%-1a", unsafe},

		// Encoded twice, in every way to write the second one.
		{"/%252e", "/%2e", unsafe},
		{"/%252F", "/%2F", unsafe},
		{"/%25%32F", "/%2F", unsafe},
		{"/%252%46", "/%2F", unsafe},
		{"/%25%32%66", "/%2f", unsafe},
		{"/%25252e", "/%252e", unsafe},

		// Dot segments, raw, encoded, half encoded and with path parameters.
		{"/.", "/.", unsafe},
		{"/..", "/..", unsafe},
		{"/./a", "/./a", unsafe},
		{"/a/../b", "/a/../b", unsafe},
		{"/a/..", "/a/..", unsafe},
		{"/a/..?x", "/a/..", unsafe},
		{"/%2e%2e/a", "/../a", unsafe},
		{"/%2E./a", "/../a", unsafe},
		{"/.%2e", "/..", unsafe},
		{"/..;/a", "/..;/a", unsafe | semicolon},
		{"/.;x=y", "/.;x=y", unsafe | semicolon},
		{"/..%3Ba/b", "/..;a/b", unsafe | semicolon},
		{"/a%2F..%2Fb", "/a%2F..%2Fb", unsafe | encodedSlash},
		{"/..%2Fb", "/..%2Fb", unsafe | encodedSlash},
		{"/a%2F%2e", "/a%2F.", unsafe | encodedSlash},

		// Bytes that are no UTF-8 once decoded.
		{"/%ff", "/\xff", unsafe},
		{"/%C3", "/\xc3", unsafe},
		{"/%C0%AE%C0%AE", "/\xc0\xae\xc0\xae", unsafe}, // overlong ".."
		{"/%C0%AF", "/\xc0\xaf", unsafe},               // overlong "/"
		{"/%ED%A0%80", "/\xed\xa0\x80", unsafe},        // a surrogate
	}
	for _, test := range tests {
		got, flags := policy.CanonPath(nil, []byte(test.raw))
		if string(got) != test.want || flags != test.flags {
			t.Errorf("%q: got %q [%v], want %q [%v]", test.raw, got, flags, test.want, test.flags)
		}
	}
}

func TestCanonPathAppends(t *testing.T) {
	dst := append(make([]byte, 0, 64), "kept/"...)
	got, flags := policy.CanonPath(dst, []byte("/%61"))
	if string(got) != "kept//a" || flags != 0 {
		t.Errorf("got %q [%v]", got, flags)
	}
	if n := testing.AllocsPerRun(100, func() { policy.CanonPath(dst[:0], []byte("/a/%2e%2f;//b?c")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestPathFlagsString(t *testing.T) {
	for flags, want := range map[policy.PathFlags]string{
		0: "", encodedSlash: "encoded_slash", doubleSlash | semicolon: "double_slash|semicolon", unsafe: "unsafe",
	} {
		if flags.String() != want {
			t.Errorf("%d: %q", flags, flags.String())
		}
	}
}

// percentEncode writes a canonical path so that CanonPath gives it back: every
// byte encoded but slashes and the encoded slash.
func percentEncode(path []byte) []byte {
	const hex = "0123456789abcdef"
	var raw []byte
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			raw = append(raw, c)
		case c == '%' && bytes.HasPrefix(path[i:], []byte("%2F")):
			raw = append(raw, "%2f"...)
			i += 2
		default:
			raw = append(raw, '%', hex[c>>4], hex[c&15])
		}
	}
	return raw
}

func FuzzCanonPath(f *testing.F) {
	for _, seed := range []string{
		"/", "/a/b?c", "/%61", "/a%2fb", "//", "/;", "/..", "/%2e%2e", "/..;/", "/%252e", "/%25%32%46", "/\xff", "/%c3%a9",
		"/a%2F..%2Fb", "/a%2f%2f", "/a#b", "/a\\b", "/%00", "*", "", "http://a/b", "/%25%25%25", "/%2525", "/%25%2F",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		input := bytes.Clone(raw)
		path, flags := policy.CanonPath(nil, raw)
		if !bytes.Equal(input, raw) {
			t.Fatal("changed its input")
		}
		if len(path) > len(raw) {
			t.Fatalf("%q is longer than its raw form", path)
		}
		withQuery, sameFlags := policy.CanonPath([]byte("x"), append(bytes.Clone(raw), "?../%2e;//"...))
		if string(withQuery) != "x"+string(path) || sameFlags != flags {
			t.Fatalf("with a query: %q [%v], without: %q [%v]", withQuery, sameFlags, path, flags)
		}
		if flags&unsafe != 0 {
			return
		}
		// From here on the path may be allowed.
		if len(path) == 0 || path[0] != '/' || !utf8.Valid(path) {
			t.Fatalf("accepted %q", path)
		}
		for _, c := range path {
			if c < 0x20 || c == 0x7f || c == '\\' {
				t.Fatalf("accepted %q with %#x", path, c)
			}
		}
		text := string(path)
		// However a lenient server splits it, there are no dot segments.
		for _, piece := range strings.FieldsFunc(strings.ReplaceAll(text, "%2F", "/"), func(r rune) bool { return r == '/' }) {
			if name, _, _ := strings.Cut(piece, ";"); name == "." || name == ".." {
				t.Fatalf("accepted %q with a dot segment", path)
			}
		}
		// Nothing in it reads as an encoding but the slash that was kept.
		for i := 0; i+2 < len(path); i++ {
			if path[i] == '%' && isHex(path[i+1]) && isHex(path[i+2]) && !strings.HasPrefix(text[i:], "%2F") {
				t.Fatalf("accepted %q, which decodes again", path)
			}
		}
		if (strings.Contains(text, "%2F")) != (flags&encodedSlash != 0) {
			t.Fatalf("%q [%v]: encoded slash", path, flags)
		}
		if strings.Contains(text, ";") != (flags&semicolon != 0) {
			t.Fatalf("%q [%v]: semicolon", path, flags)
		}
		if strings.Contains(strings.ReplaceAll(text, "%2F", "/"), "//") != (flags&doubleSlash != 0) {
			t.Fatalf("%q [%v]: double slash", path, flags)
		}
		// The canonical form is a fixed point, written out in full or, where it is
		// made of harmless bytes alone, as it stands.
		if again, againFlags := policy.CanonPath(nil, percentEncode(path)); !bytes.Equal(again, path) || againFlags != flags {
			t.Fatalf("%q [%v] becomes %q [%v]", path, flags, again, againFlags)
		}
		if flags == 0 && !bytes.ContainsAny(path, " %?#") && isASCII(path) {
			if again, againFlags := policy.CanonPath(nil, path); !bytes.Equal(again, path) || againFlags != 0 {
				t.Fatalf("%q becomes %q [%v]", path, again, againFlags)
			}
		}
	})
}

func isHex(c byte) bool { return strings.IndexByte("0123456789abcdefABCDEF", c) >= 0 }

func isASCII(path []byte) bool {
	for _, c := range path {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

func BenchmarkCanonPath(b *testing.B) {
	for name, raw := range map[string]string{"plain": "/api/v1/posts/4711/comments", "encoded": "/api/%761/posts/a%20b/x.y?q=1"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			dst, src := make([]byte, 0, 64), []byte(raw)
			for b.Loop() {
				policy.CanonPath(dst, src)
			}
		})
	}
}
