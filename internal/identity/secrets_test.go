package identity

import (
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"
)

// FuzzSecrets: a text is a user's API key or a refresh token by its whole form alone,
// never both, and its digest is that of its bytes.
func FuzzSecrets(f *testing.F) {
	key, refresh := NewUserKey(), NewRefreshToken()
	for _, seed := range []string{"", string(key[:]), string(refresh[:]), string(key[:]) + "\n", "rak_" + strings.Repeat("é", 21) + "a", strings.ToUpper(string(key[:])), " " + string(refresh[:])} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\Arak_[0-9A-Za-z]{43}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		isKey := IsUserKey([]byte(text))
		if isKey && !form.MatchString(text) {
			t.Errorf("%q is a user's API key", text)
		}
		digest, isRefresh := ParseRefreshToken([]byte(text))
		if isRefresh && (digest != sha256.Sum256([]byte(text)) || len(text) != RefreshTokenSize || isKey) {
			t.Errorf("%q is a refresh token", text)
		}
	})
}
