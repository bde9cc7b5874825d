package identity

import (
	"crypto/sha256"
	"testing"
)

func TestIsUserKey(t *testing.T) {
	if !IsUserKey([]byte(aUserKy)) {
		t.Fatalf("%q is a user key", aUserKy)
	}
	for name, text := range map[string]string{
		"nothing":               "",
		"the prefix alone":      "rak_",
		"a character short":     aUserKy[:UserKeySize-1],
		"a character long":      aUserKy + "0",
		"another prefix":        "sak_" + aUserKy[4:],
		"the prefix in capital": "RAK_" + aUserKy[4:],
		"no prefix":             aUserKy[4:] + "0000",
		"a hyphen":              aUserKy[:20] + "-" + aUserKy[21:],
		"an underscore":         aUserKy[:20] + "_" + aUserKy[21:],
		"a newline after":       aUserKy[:UserKeySize-1] + "\n",
		"a space before":        " " + aUserKy[:UserKeySize-1],
		"a NUL":                 aUserKy[:30] + "\x00" + aUserKy[31:],
		"a letter beyond ASCII": aUserKy[:30] + "\xe9" + aUserKy[31:],
	} {
		if IsUserKey([]byte(text)) {
			t.Errorf("%s: %q passes", name, text)
		}
	}
}

func TestNewUserKey(t *testing.T) {
	const keys = 2000
	seen, counts := map[string]bool{}, map[byte]int{}
	for range keys {
		text := NewUserKey()
		if !IsUserKey(text[:]) {
			t.Fatalf("%q is no user key", text)
		}
		seen[string(text[:])] = true
		for _, c := range text[4:] {
			counts[c]++
		}
	}
	if len(seen) != keys {
		t.Errorf("%d different keys of %d", len(seen), keys)
	}
	// 86,000 characters, about 1,387 of each: 15% off is 5.6 standard deviations. A
	// byte taken modulo 62 makes the first eight characters 25% likelier.
	mean := float64(keys*43) / 62
	for _, c := range base62 {
		if n := float64(counts[byte(c)]); n < mean*0.85 || n > mean*1.15 {
			t.Errorf("%c came %v times, about %.0f were due", c, n, mean)
		}
	}
}

func TestUserKeyDigest(t *testing.T) {
	if UserKeyDigest([]byte(aUserKy)) != sha256.Sum256([]byte(aUserKy)) {
		t.Error("the digest is not the SHA-256 of the text")
	}
	if n := testing.AllocsPerRun(100, func() { UserKeyDigest([]byte(aUserKy)) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
