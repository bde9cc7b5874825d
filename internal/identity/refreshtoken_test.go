package identity

import (
	"crypto/sha256"
	"strings"
	"testing"

	"portcullis/policy"
)

const aRefreshToken = "prt_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"

func TestParseRefreshToken(t *testing.T) {
	digest, ok := ParseRefreshToken([]byte(aRefreshToken))
	if !ok || digest != sha256.Sum256([]byte(aRefreshToken)) || digest != RefreshTokenDigest([]byte(aRefreshToken)) {
		t.Fatalf("%x, %v", digest, ok)
	}
	for name, text := range map[string]string{
		"nothing":               "",
		"the prefix alone":      "prt_",
		"a character short":     aRefreshToken[:RefreshTokenSize-1],
		"a character long":      aRefreshToken + "0",
		"a user key":            "rak_" + aRefreshToken[4:],
		"the prefix in capital": "PRT_" + aRefreshToken[4:],
		"no prefix":             aRefreshToken[4:] + "0000",
		"a hyphen":              aRefreshToken[:20] + "-" + aRefreshToken[21:],
		"an underscore":         aRefreshToken[:20] + "_" + aRefreshToken[21:],
		"a newline after":       aRefreshToken[:RefreshTokenSize-1] + "\n",
		"a space before":        " " + aRefreshToken[:RefreshTokenSize-1],
		"a NUL":                 aRefreshToken[:30] + "\x00" + aRefreshToken[31:],
		"a letter beyond ASCII": aRefreshToken[:30] + "\xe9" + aRefreshToken[31:],
	} {
		if digest, ok := ParseRefreshToken([]byte(text)); ok || digest != [32]byte{} {
			t.Errorf("%s: %q passes", name, text)
		}
	}
	text := []byte(aRefreshToken)
	if n := testing.AllocsPerRun(100, func() { ParseRefreshToken(text) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewRefreshToken(t *testing.T) {
	seen := map[[32]byte]bool{}
	for range 1000 {
		text := NewRefreshToken()
		digest, ok := ParseRefreshToken(text[:])
		if !ok || !strings.HasPrefix(string(text[:]), "prt_") {
			t.Fatalf("%q is no refresh token", text)
		}
		if seen[digest] {
			t.Fatalf("%q came twice", text)
		}
		seen[digest] = true
	}
}

// A refresh token opens nothing at the gate, wherever it is put.
func TestARefreshTokenIsNoCredential(t *testing.T) {
	value := func(v string) HeaderValue { return HeaderValue{Value: []byte(v), Count: 1} }
	if c := ReadCredentials(HeaderValue{}, HeaderValue{}, value(aRefreshToken)); c.Reason != policy.ReasonBadKey {
		t.Errorf("in x-api-key: %v", c.Reason)
	}
	c := ReadCredentials(value("Bearer "+aRefreshToken), HeaderValue{}, HeaderValue{})
	if c.Reason == policy.ReasonOK {
		_, c.Reason = strictVerifier(t).Verify(string(c.Bearer))
	}
	if c.Reason != policy.ReasonInvalidToken {
		t.Errorf("as Bearer: %v", c.Reason)
	}
}
