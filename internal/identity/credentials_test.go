package identity

import (
	"strings"
	"testing"

	"portcullis/policy"
)

const (
	aKey    = "6f9619ff-8b86-4011-b42d-00c04fc964ff"
	aUserKy = "rak_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
)

// header makes the HeaderValue of a header that came with these values.
func header(values ...string) HeaderValue {
	if len(values) == 0 {
		return HeaderValue{}
	}
	return HeaderValue{Value: []byte(values[0]), Count: len(values)}
}

func TestCredentials(t *testing.T) {
	const (
		ok          = policy.ReasonOK
		missing     = policy.ReasonMissingCredential
		invalid     = policy.ReasonInvalidToken
		badKey      = policy.ReasonBadKey
		conflicting = policy.ReasonConflictingCredentials
	)
	none := header()
	for name, try := range map[string]struct {
		authorization, clientKey, apiKey HeaderValue
		present                          Presence
		reason                           policy.Reason
	}{
		"nothing": {none, none, none, 0, missing},

		"a token":                   {header("Bearer a.b.c"), none, none, PresentBearer, ok},
		"bearer in lower case":      {header("bearer a.b.c"), none, none, PresentBearer, ok},
		"BEARER":                    {header("BEARER a.b.c"), none, none, PresentBearer, ok},
		"a client key":              {none, header(aKey), none, PresentClientKey, ok},
		"a client key in capitals":  {none, header(strings.ToUpper(aKey)), none, PresentClientKey, ok},
		"a token and a client key":  {header("Bearer a.b.c"), header(aKey), none, PresentBearer | PresentClientKey, ok},
		"Authorization of nothing":  {header(""), none, none, PresentBearer, invalid},
		"Bearer alone":              {header("Bearer"), none, none, PresentBearer, invalid},
		"Bearer and a space":        {header("Bearer "), none, none, PresentBearer, invalid},
		"two spaces":                {header("Bearer  a.b.c"), none, none, PresentBearer, invalid},
		"a tab":                     {header("Bearer\ta.b.c"), none, none, PresentBearer, invalid},
		"a space after":             {header("Bearer a.b.c "), none, none, PresentBearer, invalid},
		"a space before":            {header(" Bearer a.b.c"), none, none, PresentBearer, invalid},
		"two tokens":                {header("Bearer a.b.c d.e.f"), none, none, PresentBearer, invalid},
		"the token without Bearer":  {header("a.b.c"), none, none, PresentBearer, invalid},
		"no space":                  {header("Bearera.b.c"), none, none, PresentBearer, invalid},
		"Basic":                     {header("Basic YWxpY2U6eA=="), none, none, PresentBearer, invalid},
		"DPoP":                      {header("DPoP a.b.c"), none, none, PresentBearer, invalid},
		"Negotiate":                 {header("Negotiate YWxpY2U6eA=="), none, none, PresentBearer, invalid},
		"Basic beside a client key": {header("Basic YWxpY2U6eA=="), header(aKey), none, PresentBearer | PresentClientKey, invalid},

		"a client key of nothing":        {none, header(""), none, PresentClientKey, badKey},
		"a client key that is none":      {none, header("my-app-key"), none, PresentClientKey, badKey},
		"a client key of version 1":      {none, header("6f9619ff-8b86-1011-b42d-00c04fc964ff"), none, PresentClientKey, badKey},
		"a good token beside a junk key": {header("Bearer a.b.c"), header("x"), none, PresentBearer | PresentClientKey, badKey},
		"a bad token beside a junk key":  {header("Basic x"), header("x"), none, PresentBearer | PresentClientKey, invalid},
		"a user key":                     {none, none, header(aUserKy), PresentAPIKey, ok},
		"a user key as Bearer":           {header("Bearer " + aUserKy), none, none, PresentAPIKey, ok},
		"a user key of nothing":          {none, none, header(""), PresentAPIKey, badKey},
		"a user key beside a token":      {header("Bearer a.b.c"), none, header(aUserKy), PresentBearer | PresentAPIKey, ok},
		"a user key beside a client key": {none, header(aKey), header(aUserKy), PresentClientKey | PresentAPIKey, ok},
		"all three":                      {header("Bearer a.b.c"), header(aKey), header(aUserKy), PresentBearer | PresentClientKey | PresentAPIKey, ok},
		"a user key cut short":           {none, none, header(aUserKy[:46]), PresentAPIKey, badKey},
		"a user key cut short as Bearer": {header("Bearer rak_"), none, none, PresentAPIKey, badKey},
		"a user key that is a JWT":       {none, none, header("a.b.c"), PresentAPIKey, badKey},
		"a user key in capitals":         {none, none, header(strings.ToUpper(aUserKy)), PresentAPIKey, badKey},
		"a token beside a junk user key": {header("Bearer a.b.c"), none, header("x"), PresentBearer | PresentAPIKey, badKey},

		"two Authorizations":             {header("Bearer a.b.c", "Bearer d.e.f"), none, none, PresentBearer, conflicting},
		"two equal Authorizations":       {header("Bearer a.b.c", "Bearer a.b.c"), none, none, PresentBearer, conflicting},
		"Basic, then Bearer":             {header("Basic x", "Bearer a.b.c"), none, none, PresentBearer, conflicting},
		"two joined by a comma":          {header("Bearer a.b.c,Bearer d.e.f"), none, none, PresentBearer, conflicting},
		"a comma after":                  {header("Bearer a.b.c,"), none, none, PresentBearer, conflicting},
		"a comma alone":                  {header(","), none, none, PresentBearer, conflicting},
		"a comma in a Digest":            {header(`Digest username="a", realm="b"`), none, none, PresentBearer, conflicting},
		"two client keys":                {none, header(aKey, aKey), none, PresentClientKey, conflicting},
		"two client keys joined":         {none, header(aKey + "," + aKey), none, PresentClientKey, conflicting},
		"two empty client keys":          {none, header("", ""), none, PresentClientKey, conflicting},
		"two user keys":                  {none, none, header(aUserKy, aUserKy), PresentAPIKey, conflicting},
		"a user key in both places":      {header("Bearer " + aUserKy), none, header(aUserKy), PresentAPIKey, conflicting},
		"a good token beside two keys":   {header("Bearer a.b.c"), header(aKey, aKey), none, PresentBearer | PresentClientKey, conflicting},
		"a conflict beats a bad token":   {header("Basic x"), header(aKey + ", " + aKey), none, PresentBearer | PresentClientKey, conflicting},
		"a comma in a user key, and Bad": {header("Basic x"), none, header("rak_a,rak_b"), PresentBearer | PresentAPIKey, conflicting},
	} {
		got := ReadCredentials(try.authorization, try.clientKey, try.apiKey)
		if got.Present != try.present || got.Reason != try.reason {
			t.Errorf("%s: got %03b, %v; want %03b, %v", name, got.Present, got.Reason, try.present, try.reason)
		}
		if got.Reason != policy.ReasonOK {
			continue
		}
		if try.clientKey.Count > 0 && (string(got.ClientKey) != string(try.clientKey.Value) || string(got.Key[:]) != aKey) {
			t.Errorf("%s: the key is %q, %q", name, got.ClientKey, got.Key)
		}
		if got.Present&PresentAPIKey != 0 && string(got.APIKey) != aUserKy {
			t.Errorf("%s: the user key is %q", name, got.APIKey)
		}
		if got.Present&PresentBearer != 0 && string(got.Bearer) != string(try.authorization.Value[len("Bearer "):]) {
			t.Errorf("%s: the token is %q", name, got.Bearer)
		}
	}
}

// What reads as one token and cannot be a JWT is left to the verifier, and gets
// the same reason from it.
func TestWhatIsLeftToTheVerifier(t *testing.T) {
	v := newVerifier(t, VerifierConfig{})
	for _, value := range []string{"Bearer token=\"a.b.c\"", "Bearer ==", "Bearer a=b", "Bearer a.b.c\n", "Bearer \ta.b.c", "Bearer a.b.\xe9", "Bearer a.b.\x00",
		"Bearer " + aKey, "Bearer RAK_x", "Bearer " + signed(goodHeader, object(nil)) + "=", "Bearer " + signed(goodHeader, object(nil)) + "\r"} {
		c := ReadCredentials(header(value), HeaderValue{}, HeaderValue{})
		if c.Reason != policy.ReasonOK || c.Present != PresentBearer {
			t.Errorf("%q: %v", value, c.Reason)
		}
		if _, reason := v.Verify(string(c.Bearer)); reason != policy.ReasonInvalidToken {
			t.Errorf("%q: the verifier says %v", value, reason)
		}
	}
}

func TestReadingCredentialsAllocatesNothing(t *testing.T) {
	authorization, clientKey, userKey := header("Bearer a.b.c"), header(aKey), header(aUserKy)
	if n := testing.AllocsPerRun(100, func() {
		if c := ReadCredentials(authorization, clientKey, userKey); c.Reason != policy.ReasonOK {
			t.Error(c.Reason)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzCredentials holds three laws: without exactly one value of each kind that
// is present nothing is usable, what is usable has no comma and no space,
// and nothing at all is missing.
func FuzzCredentials(f *testing.F) {
	f.Add("Bearer a.b.c", 1, aKey, 1, "", 0)
	f.Add("Bearer "+aUserKy, 1, "", 0, aUserKy, 1)
	f.Fuzz(func(t *testing.T, a string, an int, c string, cn int, u string, un int) {
		if an < 0 || cn < 0 || un < 0 {
			return
		}
		got := ReadCredentials(HeaderValue{[]byte(a), an}, HeaderValue{[]byte(c), cn}, HeaderValue{[]byte(u), un})
		if (got.Present == 0) != (an+cn+un == 0) || (got.Present == 0) != (got.Reason == policy.ReasonMissingCredential) {
			t.Errorf("present %b, %v", got.Present, got.Reason)
		}
		if got.Reason != policy.ReasonOK {
			return
		}
		if an > 1 || cn > 1 || un > 1 || strings.ContainsAny(string(got.Bearer)+string(got.ClientKey), ", ") {
			t.Errorf("usable: %+v", got)
		}
		if (an+un > 0) != (len(got.Bearer)+len(got.APIKey) > 0) || len(got.APIKey) > 0 && !IsUserKey(got.APIKey) {
			t.Errorf("usable: %+v", got)
		}
		if (cn == 1) != (len(got.ClientKey) > 0) || strings.HasPrefix(string(got.Bearer), "rak_") {
			t.Errorf("usable: %+v", got)
		}
	})
}

func BenchmarkReadCredentials(b *testing.B) {
	authorization, clientKey := header("Bearer "+strings.Repeat("abcdefgh", 86)), header(aKey)
	b.ReportAllocs()
	for b.Loop() {
		ReadCredentials(authorization, clientKey, HeaderValue{})
	}
}
