package extauthz

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"portcullis/policy"
)

// Lengths are written in one byte, or in more, or moved to make room: every edge
// must come out as protobuf writes it.
func TestFieldsOfEveryLength(t *testing.T) {
	for _, n := range []int{0, 1, 126, 127, 128, 129, 255, 256, 16382, 16383, 16384, 16385, 1 << 20, 1<<21 - 1, 1 << 21} {
		content := bytes.Repeat([]byte{0xab}, n)
		want := append([]byte("kept"), protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), content)...)
		b, at := openField([]byte("kept"), 5)
		if got := closeField(append(b, content...), at); !bytes.Equal(got, want) {
			t.Errorf("closeField at %d bytes: %x...", n, got[:min(len(got), 12)])
		}
		b, at = openLarge([]byte("kept"), 5)
		if got := closeLarge(append(b, content...), at); !bytes.Equal(got, want) {
			t.Errorf("closeLarge at %d bytes: %x...", n, got[:min(len(got), 12)])
		}
	}
}

func TestValuesOfEveryLength(t *testing.T) {
	r := newResponder()
	for n := 1; n < 300; n++ {
		text := strings.Repeat("x", n)
		for _, a := range []*answer{
			{reason: policy.ReasonOK, id: newDecisionID(), principal: policy.Principal{Tenant: text, Kind: policy.KindUser, ID: text}, roles: []string{text}, rule: text},
			{reason: policy.ReasonNoRule, id: newDecisionID(), rule: text},
		} {
			if got, want := read(t, r.respond(nil, a)), naive(a); !proto.Equal(got, want) {
				t.Fatalf("at %d bytes\ngot  %v\nwant %v", n, got, want)
			}
		}
	}
}
