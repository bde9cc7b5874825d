package decisionlog

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"portcullis/policy"
)

// decode reads a line as a consumer would.
func decode(t *testing.T, line []byte) map[string]any {
	t.Helper()
	if n := len(line); n == 0 || line[n-1] != '\n' || strings.ContainsAny(string(line[:n-1]), "\n\r") {
		t.Fatalf("not one line: %q", line)
	}
	// encoding/json mends what is not UTF-8; other readers refuse the line.
	if !utf8.Valid(line) {
		t.Errorf("not UTF-8: %q", line)
	}
	var out map[string]any
	if err := json.Unmarshal(line, &out); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return out
}

func TestHostileText(t *testing.T) {
	l := newLog(t, Config{Mode: All})
	for text, want := range map[string]string{
		`a"b\c`:                    `a"b\c`,
		"line\nfeed\r\ttab":        "line\nfeed\r\ttab",
		"\x00\x01\x1b[31m\x7f":     "\x00\x01\x1b[31m\x7f",
		"\u2028\u2029 é 漢 🜁":       "\u2028\u2029 é 漢 🜁",
		"\xff\xfe broken \xc3":     "\ufffd\ufffd broken \ufffd",
		"\xed\xa0\x80":             "\ufffd\ufffd\ufffd", // a surrogate in UTF-8
		"\xc0\xaf":                 "\ufffd\ufffd",       // an overlong slash
		`","effect":"allow","x":"`: `","effect":"allow","x":"`,
	} {
		rec := denied()
		rec.Path, rec.Host, rec.Method = []byte(text), []byte(text), []byte(text)
		rec.Principal = policy.Principal{Tenant: "t", Kind: policy.KindUser, ID: text}
		rec.Roles = []string{text, "b"}
		rec.Issuer = text
		line := l.appendRecord(nil, rec)
		got := decode(t, line)
		if got["path"] != want || got["host"] != want || got["method"] != want || got["effect"] != "deny" ||
			got["principal"].(map[string]any)["id"] != want || got["roles"].([]any)[0] != want || got["proof"].(map[string]any)["issuer"] != want {
			t.Errorf("%q: got %s", text, line)
		}
		for _, c := range line[:len(line)-1] {
			if c < 0x20 || c == 0x7f {
				t.Errorf("%q: a raw control byte in %q", text, line)
			}
		}
	}
}

// A path's query can hold anything, credentials too.
func TestQueryIsNeverWritten(t *testing.T) {
	l := newLog(t, Config{Mode: All})
	rec := denied()
	rec.Path = []byte("/login?token=hunter2")
	if line := string(l.appendRecord(nil, rec)); strings.Contains(line, "hunter2") || strings.Contains(line, "?") {
		t.Errorf("got %s", line)
	}
}

func TestLinesAreBounded(t *testing.T) {
	l := newLog(t, Config{Mode: All})
	huge := strings.Repeat("\x01", 100_000)
	roles := make([]string, 1000)
	for i := range roles {
		roles[i] = huge
	}
	rec := &Record{
		Time: time.Now(), DecisionID: []byte(huge), Principal: policy.Principal{Tenant: huge, Kind: policy.KindUser, ID: huge},
		Proof: ProofJWT, Issuer: huge, KeyID: huge, TokenID: huge, KeyName: huge, APIKeyID: huge, SPIFFE: huge, Actor: huge, Roles: roles, Rule: huge, PolicyDigest: huge,
		Method: []byte(huge), Host: []byte(huge), Path: []byte(huge),
	}
	line := l.appendRecord(nil, rec)
	if got := decode(t, line); got["truncated"] != true || len(got["roles"].([]any)) != maxRoles || len(got["path"].(string)) != maxPath {
		t.Errorf("got %.200s", line)
	}
	// Every byte takes six when escaped.
	if most := 6*(maxPath+maxMethod+maxRoles*maxRole+12*maxText+2*maxPeer) + 1024; len(line) > most {
		t.Errorf("a line of %d bytes: want %d at most", len(line), most)
	}
	// What a request alone can do to a line.
	rec = allowed()
	rec.Method, rec.Host, rec.Path = []byte(huge), []byte(huge), []byte(huge)
	if line := l.appendRecord(nil, rec); len(line) > 10<<10 {
		t.Errorf("a request made a line of %d bytes", len(line))
	}
	rec = denied()
	rec.Path = []byte(strings.Repeat("a", maxPath))
	if got := decode(t, l.appendRecord(nil, rec)); got["truncated"] != nil {
		t.Error("a path of the greatest length counts as truncated")
	}
	// A cut inside a character leaves a replacement, never a broken line.
	rec.Path = []byte(strings.Repeat("a", maxPath-1) + "é")
	if got := decode(t, l.appendRecord(nil, rec)); got["path"] != strings.Repeat("a", maxPath-1)+"\ufffd" {
		t.Errorf("got %v", got["path"])
	}
}

// The Record offers no place for a credential. Whoever adds a field says here
// that it is none.
func TestRecordHasNoCredential(t *testing.T) {
	want := []string{"Time", "DecisionID", "Principal", "Proof", "Issuer", "KeyID", "TokenID", "KeyName", "APIKeyID", "SPIFFE", "Actor", "Roles", "Rule", "Effect", "Reason",
		"Revision", "PolicyDigest", "ShadowRule", "ShadowReason", "Method", "Host", "Path", "Duration", "GRPC"}
	var got []string
	for i := range reflect.TypeFor[Record]().NumField() {
		got = append(got, reflect.TypeFor[Record]().Field(i).Name)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte("a\"\\\x00\xff\u2028é"))
	f.Add([]byte("\xe2\x80"))
	f.Fuzz(func(t *testing.T, text []byte) {
		line := append(appendEscaped([]byte{'"'}, text), '"')
		if same := append(appendEscaped([]byte{'"'}, string(text)), '"'); string(same) != string(line) {
			t.Fatalf("a string gives %s, its bytes %s", same, line)
		}
		if !utf8.Valid(line) {
			t.Fatalf("not UTF-8: %q", line)
		}
		var got string
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		want := make([]rune, 0, len(text))
		for b := text; len(b) > 0; {
			r, size := utf8.DecodeRune(b)
			want, b = append(want, r), b[size:]
		}
		if got != string(want) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}
