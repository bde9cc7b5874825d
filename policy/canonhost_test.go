package policy_test

import (
	"bytes"
	"strings"
	"testing"

	"portcullis/policy"
)

func TestCanonHost(t *testing.T) {
	long := strings.Repeat("a.", 126) + "b" // 253 bytes
	good := map[string]string{
		"":                          "",
		"example.com":               "example.com",
		"Example.COM":               "example.com",
		"example.com:443":           "example.com",
		"example.com:1":             "example.com",
		"example.com:65535":         "example.com",
		"example.com:00080":         "example.com",
		"example.com.":              "example.com",
		"example.com.:8443":         "example.com",
		"localhost":                 "localhost",
		"my_service-1":              "my_service-1",
		"127.0.0.1:80":              "127.0.0.1",
		"xn--bcher-kva.example":     "xn--bcher-kva.example",
		"[::1]":                     "[::1]",
		"[::1]:8080":                "[::1]",
		"[2001:DB8:0:0:0:0:0:1]:80": "[2001:db8::1]",
		"[::ffff:10.0.0.1]":         "[::ffff:10.0.0.1]",
		"[0000:0000:0000:0000:0000:ffff:255.255.255.255]": "[::ffff:255.255.255.255]",
		long:       long,
		long + ".": long,
	}
	for raw, want := range good {
		got, ok := policy.CanonHost(nil, []byte(raw))
		if !ok || string(got) != want {
			t.Errorf("%q: got %q %v, want %q", raw, got, ok, want)
		}
	}
	bad := []string{
		"user@example.com", "user:pw@example.com", "example.com@", "a,b", "a.com, b.com", "a b", " a", "a ", "a\tb", "a\x00b", "a\nb", "a\x7f",
		"a%2eb", "a%", "a/b", "a/", "a?b", "a#b", "a\\b", "é.com", "a\xff", "a*b", "*.a.com", "a!b", "a~b", "(a)", "{a}", `"a"`, "a;b", "a=b", "a+b",
		".", "..", ".a", "a..b", "a..", "a...", ".:80", ":80", ":",
		"a:", "a:x", "a:80x", "a:-1", "a:+1", "a:0", "a:65536", "a:99999", "a:100000", "a:080000", "a:80:80", "a: 80", "a:80.", "a::1", "::1",
		"[", "[]", "[::1", "::1]", "[::1]x", "[::1].", "[::1]:", "[::1]:x", "[::1]:0", "[::1]:80:80", "[a]", "[127.0.0.1]", "[fe80::1%eth0]", "[fe80::1%25eth0]",
		"[[::1]]", "[::1]]", "[:::1]", "[v1.a]", "a[::1]", "[::1]@a", "[" + strings.Repeat("0", 60) + "::1]",
		long + "c", strings.Repeat("a", 254),
	}
	for _, raw := range bad {
		if got, ok := policy.CanonHost([]byte("kept"), []byte(raw)); ok || string(got) != "kept" {
			t.Errorf("%q: got %q %v, want it refused", raw, got, ok)
		}
	}
}

func TestCanonHostAllocations(t *testing.T) {
	dst := make([]byte, 0, 256)
	for _, raw := range []string{"Example.com:443", "a,b", "", "a..b"} {
		src := []byte(raw)
		if n := testing.AllocsPerRun(100, func() { policy.CanonHost(dst, src) }); n != 0 {
			t.Errorf("%q: %v allocations", raw, n)
		}
	}
}

func FuzzCanonHost(f *testing.F) {
	for _, seed := range []string{"", "a.com", "A.com:80", "a.com.", "[::1]:80", "[fe80::1%eth0]", "a..b", "u@h", "a,b", ":80", "[::ffff:1.2.3.4]", "a:0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		input := bytes.Clone(raw)
		host, ok := policy.CanonHost([]byte("x"), raw)
		if !bytes.Equal(input, raw) {
			t.Fatal("changed its input")
		}
		if !ok {
			if string(host) != "x" {
				t.Fatalf("left %q after a refusal", host)
			}
			return
		}
		host = host[1:]
		if len(host) > 253 || len(host) == 0 && len(raw) > 0 {
			t.Fatalf("%q became %q", raw, host)
		}
		for _, c := range host {
			if c <= 0x20 || c >= 0x7f || 'A' <= c && c <= 'Z' || bytes.IndexByte([]byte("@,%/?#\\*"), c) >= 0 {
				t.Fatalf("%q became %q", raw, host)
			}
		}
		if len(host) > 0 && host[0] != '[' {
			if bytes.ContainsAny(host, ":[]") || bytes.HasPrefix(host, []byte(".")) || bytes.HasSuffix(host, []byte(".")) || bytes.Contains(host, []byte("..")) {
				t.Fatalf("%q became %q", raw, host)
			}
		}
		for _, suffix := range []string{"", ":80"} {
			if suffix != "" && len(host) == 0 {
				continue
			}
			again, ok := policy.CanonHost(nil, append(bytes.Clone(host), suffix...))
			if !ok || !bytes.Equal(again, host) {
				t.Fatalf("%q became %q, then %q %v", raw, host, again, ok)
			}
		}
		upper, ok := policy.CanonHost(nil, bytes.ToUpper(host))
		if !ok || !bytes.Equal(upper, host) {
			t.Fatalf("%q in capitals became %q %v", host, upper, ok)
		}
	})
}

func BenchmarkCanonHost(b *testing.B) {
	b.ReportAllocs()
	dst, src := make([]byte, 0, 64), []byte("Blog.Example.com:443")
	for b.Loop() {
		policy.CanonHost(dst, src)
	}
}
