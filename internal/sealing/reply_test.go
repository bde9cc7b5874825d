package sealing

import (
	"errors"
	"strings"
	"testing"
)

func TestAReplyOpensOnlyForItsSecretAndItsUse(t *testing.T) {
	const secret, use, text = "5b5c2f0e-0c55-4b39-9d1c-0a4a5a4f6a11", "retry-1", `{"new_key":"x"}`
	sealed, err := SealReply(secret, use, text)
	if err != nil || strings.Contains(sealed, "new_key") {
		t.Fatalf("sealed as %q, %v", sealed, err)
	}
	if got, err := OpenReply(secret, use, sealed); got != text || err != nil {
		t.Errorf("opened as %q, %v", got, err)
	}
	other := "5b5c2f0e-0c55-4b39-9d1c-0a4a5a4f6a12"
	for _, c := range [][3]string{{other, use, sealed}, {secret, "retry-2", sealed}, {secret, "", sealed}, {secret, use, sealed[:len(sealed)-4]}, {secret, use, ""}} {
		if got, err := OpenReply(c[0], c[1], c[2]); got != "" || !errors.Is(err, ErrUnreadable) {
			t.Errorf("%q: opened as %q, %v", c, got, err)
		}
	}
}
