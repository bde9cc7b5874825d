package admin

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"portcullis/internal/auditfilter"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

func bodyOf(text []byte) *call {
	return &call{Request: &http.Request{Body: io.NopCloser(bytes.NewReader(text))}}
}

// clientsDoing reports whether an error is an answer to the caller's mistake, with a
// message that can be shown.
func clientsDoing(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.status >= 400 && f.status < 500 && f.message != "" && len(f.message) < 1000
}

// FuzzBody: a body that is taken reads for encoding/json as it does for us, each of
// its members is of its class, and all else is the caller's mistake.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{}`, `[]`, `{"label":"laptop","permission":"edit","strict_users":true}`, `{"label":null}`, `{"label":"a\nb"}`, `{"label":1}`,
		`{"api_key":"rak_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"}`, `{"jti":"a","jti":"b"}`, `{"JTI":"a"}`, `{"jti":"x","expires_in":60,"before":"2026-01-02T03:04:05Z"}`,
		`{"id":"alice","kind":"user","issuer":""}`, "{\"jti\":\"\xff\"}", `{"a":{"b":[1,2,{"c":null}]}}`, `{"permission":"\u0065dit"}`, `{"expires_in":1e2}`,
	} {
		f.Add([]byte(seed))
	}
	label, permission := ruleLabel, rulePermission
	f.Fuzz(func(t *testing.T, text []byte) {
		object, err := bodyOf(text).object(true)
		if err != nil {
			if !clientsDoing(err) || object != nil {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); len(text) > 0 && err != nil || len(want) != len(object) {
			t.Fatalf("%q: %d members, encoding/json finds %d: %v", text, len(object), len(want), err)
		}
		same := func(name, got string) {
			var text string
			if err := json.Unmarshal(want[name], &text); err != nil || text != got {
				t.Fatalf("%s is %q, encoding/json reads %q: %v", name, got, text, err)
			}
		}
		if got, err := object.label(); err == nil && got != "" {
			if same("label", got); !label.admits(got) {
				t.Fatalf("label %q", got)
			}
		} else if err != nil && !clientsDoing(err) {
			t.Fatal(err)
		}
		if got, err := object.permission(); err == nil {
			if same("permission", got); !permission.admits(got) {
				t.Fatalf("permission %q", got)
			}
		} else if !clientsDoing(err) {
			t.Fatal(err)
		}
		if got, err := object.apiKey(); err == nil {
			if same("api_key", got); !identity.IsUserKey([]byte(got)) {
				t.Fatalf("api_key %q", got)
			}
		} else if !clientsDoing(err) {
			t.Fatal(err)
		}
		b, err := readDenyBody(bodyOf(text))
		if err != nil {
			if !clientsDoing(err) {
				t.Fatal(err)
			}
			return
		}
		for name, got := range map[string]*string{"issuer": b.Issuer, "jti": b.Token, "kind": b.Kind, "id": b.ID, "kid": b.Key} {
			if got != nil {
				same(name, *got)
			} else if value, given := want[name]; given && string(value) != "null" {
				t.Fatalf("%s of %q is passed over", name, text)
			}
		}
	})
}

// FuzzQuery: what is read of a query is within its bounds and as the query has it,
// once; all else is the caller's mistake.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "wait=all&timeout=2s", "wait=no", "limit=10&offset=5&action=add_membership", "limit=1&limit=2", "limit=%00", "a;b", "%zz", "overlap=1h", "overlap=-1s", "timeout=1e9s", "limit=+5", "limit=09", "action=%C3%A9",
		"action=delete&action=X&entity=role&subject=alice&actor=cli&outcome=done&since=7d&until=2026-01-02T03:04:05Z&before=9", "since=0001-01-01T00:00:00Z", "subject=%3E%22&before=0"} {
		f.Add(seed, 100)
	}
	f.Fuzz(func(t *testing.T, query string, rows int) {
		rows &= 1<<20 - 1
		values, parsed := url.ParseQuery(query)
		read := func(name string, err error) bool {
			if err != nil && !clientsDoing(err) {
				t.Fatalf("%q: %v", query, err)
			}
			if err == nil && (parsed != nil || len(values[name]) > 1) {
				t.Fatalf("%q is taken, with %s %q: %v", query, name, values[name], parsed)
			}
			return err == nil
		}
		if plan, err := parseWait(query); read("wait", err) && (plan.timeout <= 0 || plan.timeout > maxWait || plan.all != (values.Get("wait") == "all")) {
			t.Fatalf("%q: %+v", query, plan)
		}
		if d, err := parseOverlap(query); read("overlap", err) && (d < 0 || d > maxOverlap) {
			t.Fatalf("%q: overlap %s", query, d)
		}
		for what, read := range map[string]func(map[string][]string, time.Time) (store.AuditQuery, error){"page": auditfilter.Page, "export": auditfilter.Filters} {
			texts, q, err := readAuditQuery(query, time.Unix(1700000000, 0), read)
			if err != nil {
				if !clientsDoing(err) {
					t.Fatalf("%q, %s: %v", query, what, err)
				}
				continue
			}
			for _, once := range []string{"entity", "subject", "actor", "outcome", "since", "until", "before"} {
				if len(values[once]) > 1 {
					t.Fatalf("%q, %s: %s is taken twice", query, what, once)
				}
			}
			if what == "page" && (q.Limit < 1 || q.Limit > maxLimit || q.Offset < 0 || q.Offset > maxOffset || len(values["limit"]) > 1 || len(values["offset"]) > 1) {
				t.Fatalf("%q: %+v", query, q)
			}
			if parsed != nil || q.Tenant != 0 || q.Entity != values.Get("entity") || q.Subject != values.Get("subject") || q.Actor != values.Get("actor") || q.Outcome != values.Get("outcome") ||
				(q.Before > 0) != values.Has("before") || q.Since.IsZero() == values.Has("since") || q.Until.IsZero() == values.Has("until") ||
				slices.ContainsFunc(values["action"], func(a string) bool { return a != "" }) != (len(q.Actions) > 0) {
				t.Fatalf("%q, %s: %+v", query, what, q)
			}
			link := auditfilter.Next(texts, &q, 1).Encode()
			if strings.ContainsFunc(link, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("<>\"", r) }) {
				t.Fatalf("%q, %s: a link of %q", query, what, link)
			}
		}
		c := &call{Request: &http.Request{URL: &url.URL{RawQuery: query}}, out: http.Header{}}
		if from, to, err := c.window(rows); rows > 0 && read("offset", err) && (from < 0 || to < from || to > rows) {
			t.Fatalf("%q: rows %d to %d of %d", query, from, to, rows)
		}
	})
}

// FuzzPath: a path is cut into what its own segments say, decoded once, and a name
// that is admitted is of plain ASCII.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/", "/api/role/editor", "/api/role/%65", "/api/role/a%2Fb", "/api/role/%00", "/api/role/editor%0A", "//", "/..", "/%2e", "*", "", "/a%zz", "/a%2", "/\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		segments, ok := splitPath(path)
		if !ok {
			return
		}
		raw := strings.Split(path, "/")
		if raw[0] != "" || len(segments) != len(raw)-1 {
			t.Fatalf("%q became %q", path, segments)
		}
		for i, s := range segments {
			once, err := url.PathUnescape(raw[i+1])
			if err != nil || s != once {
				t.Fatalf("segment %q became %q, want %q: %v", raw[i+1], s, once, err)
			}
			for _, rule := range []nameRule{ruleRole, ruleUser, rulePermission, ruleTenant, ruleEntry, ruleKeyID, ruleLabel} {
				if rule.admits(s) && (!utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`/\'"<>;%`, r) })) {
					t.Fatalf("%s %q is admitted", rule.what, s)
				}
			}
		}
	})
}

// FuzzHeaders: what is kept or sent back of a header is bounded and harmless.
func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{"", "curl/8.5", "a\xffb", "<script>", "a\r\nSet-Cookie: a=b", "\u202e", strings.Repeat("é", 300)} {
		f.Add(seed)
	}
	at := time.Unix(1700000000, 0)
	f.Fuzz(func(t *testing.T, value string) {
		id := requestID(http.Header{"X-Request-Id": {value}})
		if id == "" || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			t.Errorf("the request id %q became %q", value, id)
		}
		agent := userAgent(http.Header{"User-Agent": {value}})
		if len(agent) > 4*maxUserAgent || !utf8.ValidString(agent) || strings.ContainsFunc(agent, unicode.IsControl) || strings.ContainsAny(agent, "<>\u202e\u200b") {
			t.Errorf("the user agent %q became %q", value, agent)
		}
		c := &call{Request: &http.Request{Header: http.Header{"Idempotency-Key": {value}}}}
		if use, err := idempotencyKey(c); err == nil && (use != "header "+value || len(value) > maxIdempotent || !printable(value)) || err != nil && !clientsDoing(err) {
			t.Errorf("the idempotency key %q: %q, %v", value, use, err)
		}
		if status, ok := refusalStatus([]byte(value)); ok && (status < 400 || status > 499) {
			t.Errorf("the refusal %q has status %d", value, status)
		}
		var body struct{ Message string }
		if err := json.Unmarshal(encodeError(400, "Invalid x: "+echo(value), at), &body); err != nil || len(body.Message) > 4*maxEchoed+50 || strings.ContainsAny(body.Message, "\x7f\u202e\u200b") {
			t.Errorf("%q is echoed as %q: %v", value, body.Message, err)
		}
	})
}

// FuzzBasic: credentials that are read are those that the header holds, and only one
// place may hold them.
func FuzzBasic(f *testing.F) {
	for _, seed := range [][2]string{{"Basic YTpi", ""}, {"basic  YTpi", "a"}, {"Basic YTpi=", ""}, {"Basic %", "a"}, {"Bearer x", ""}, {"", "a"}, {"Basic " + base64.StdEncoding.EncodeToString([]byte("t%2Fc:s")), "t/c"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, header, id string) {
		gotID, secret, err := clientCredentials([]string{header}, form{"client_id": id})
		if err != nil {
			if !clientsDoing(err) {
				t.Fatal(err)
			}
			return
		}
		if id != "" && gotID != id {
			t.Fatalf("%q with client_id %q is %q", header, id, gotID)
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(gotID)+":"+url.QueryEscape(secret)))
		if id2, secret2, ok := basicCredentials(again); !ok || id2 != gotID || secret2 != secret {
			t.Fatalf("%q is %q and %q, and %q is %q and %q", header, gotID, secret, again, id2, secret2)
		}
		if _, _, err := clientCredentials([]string{header, header}, form{}); err == nil {
			t.Fatal("two headers are taken")
		}
		if _, _, err := clientCredentials([]string{header}, form{"client_id": id, "client_secret": secret + "x"}); err == nil {
			t.Fatal("a header and a secret in the form are taken")
		}
	})
}
