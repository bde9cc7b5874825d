package admin_test

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// hostile is what no name may be, as it may stand in a request target. Every
// route must answer it with a 4xx in the form of every error.
var hostile = map[string]string{
	"nul":                    "%00",
	"nul within":             "edi%00tor",
	"line feed at the end":   "editor%0A",
	"line feed at the start": "%0Aeditor",
	"crlf and a header":      "editor%0D%0ASet-Cookie:%20a=b",
	"escape character":       "%1b[31m",
	"delete":                 "editor%7f",
	"blank":                  "%20",
	"plus is no blank":       "a+b%20c",
	"quote":                  "%27%20OR%201=1--",
	"raw quote":              "'OR'1'='1",
	"statement":              "x%27;%20DROP%20TABLE%20roles;--",
	"script":                 "%3Cscript%3Ealert(1)%3C/script%3E",
	"raw script":             "<script>alert(1)<script>",
	"template":               "%7B%7B7*7%7D%7D",
	"json":                   "%7B%22role%22:1%7D",
	"dot":                    ".",
	"dots":                   "..",
	"encoded dots":           "%2e%2e",
	"dots and a slash":       "..%2f..%2fetc%2fpasswd",
	"slash":                  "a%2Fb",
	"double encoding":        "%252e%252e",
	"double encoded letter":  "%2565ditor",
	"backslash":              "a%5Cb",
	"semicolon":              "editor;x=1",
	"percent":                "100%25",
	"glob":                   "*",
	"colon":                  "a:b",
	"latin e acute":          "%C3%A9diteur",
	"cyrillic e":             "%D0%B5ditor",
	"full width letters":     "%EF%BD%85ditor",
	"zero width":             "edi%E2%80%8Btor",
	"right to left":          "%E2%80%AEeditor",
	"kelvin sign":            "%E2%84%AA",
	"invalid utf-8":          "%ff%fe",
	"overlong slash":         "%c0%af",
	"utf-8 surrogate":        "%ed%a0%80",
	"broken escape":          "%zz",
	"cut escape":             "%2",
	"raw nul":                "a\x00b",
	"raw tab":                "a\tb",
	"raw unicode":            "é",
	"raw invalid utf-8":      "\xff",
	"129 bytes":              strings.Repeat("a", 129),
	"4 KiB":                  strings.Repeat("a", 4<<10),
	"64 KiB":                 strings.Repeat("a", 64<<10),
	"1 MiB":                  strings.Repeat("a", 1<<20),
	"1 MiB encoded":          strings.Repeat("%61", 1<<20/3),
	"3 MiB":                  strings.Repeat("a", 3<<20),
}

func TestHostileNames(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		before := h.revision()
		for what, text := range hostile {
			for _, target := range []string{
				"POST /api/role/*", "DELETE /api/role/*",
				"POST /api/permission/*/name", "DELETE /api/permission/*/name", "GET /api/permission/*/name",
				"POST /api/permission/editor/*", "DELETE /api/permission/editor/*", "GET /api/permission/editor/*",
				"POST /api/membership/*/editor", "DELETE /api/membership/*/editor", "GET /api/membership/*/editor",
				"POST /api/membership/alice/*", "DELETE /api/membership/alice/*", "GET /api/membership/alice/*",
				"GET /api/has_permission/*/name", "GET /api/has_permission/alice/*",
			} {
				method, path, _ := strings.Cut(target, " ")
				refused(t, h, what, h.ask("manager", method, strings.Replace(path, "*", text, 1)), target)
			}
		}
		if after := h.revision(); after != before {
			t.Errorf("hostile names made %d writes", after-before)
		}
	})
}

func TestHostileQueries(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		before := h.revision()
		for what, text := range hostile {
			for _, target := range []string{"POST /api/role/editor?wait=*", "POST /api/role/editor?timeout=*", "GET /api/audit?limit=*", "GET /api/audit?offset=*", "GET /api/audit?action=*"} {
				if strings.Contains(target, "action=") && len(text) <= 64 && strings.Trim(text, "abcdefghijklmnopqrstuvwxyz_") == "" {
					continue // a word
				}
				method, path, _ := strings.Cut(target, " ")
				refused(t, h, what, h.ask("manager", method, strings.Replace(path, "*", text, 1)), target)
			}
		}
		if after := h.revision(); after != before {
			t.Errorf("hostile queries made %d writes", after-before)
		}
	})
}

// Headers are free text from outside: they are kept out of harm's way or refused,
// and a write goes on all the same.
func TestHostileHeaders(t *testing.T) {
	onEveryStore(t, func(t *testing.T, h *house) {
		for what, text := range hostile {
			raw, err := url.PathUnescape(text)
			if err != nil {
				raw = text
			}
			if strings.ContainsAny(raw, "\x00\r\n\x1b\x7f") {
				continue // net/http refuses such a header, see TestWhatIsNoRequest
			}
			got := h.ask("manager", "POST", "/api/role/editor", "User-Agent: "+raw, "X-Request-Id: "+raw)
			if len(raw) > 60<<10 {
				refused(t, h, what, got, "as User-Agent")
				continue
			}
			if got.status != 200 {
				t.Errorf("%s as User-Agent and X-Request-Id: %d %s", what, got.status, got.body)
			}
			if id := got.header.Get("X-Request-Id"); id == raw && !isRequestID(raw) {
				t.Errorf("%s came back as X-Request-Id %q", what, id)
			}
			if got := h.ask("nobody", "GET", "/api/roles", "Authorization: Bearer "+raw); got.status != 400 && got.status != 401 {
				t.Errorf("%s as a key: %d %s", what, got.status, got.body)
			}
		}
		got := h.ask("manager", "GET", "/api/audit?limit=500")
		if got.status != 200 || !json.Valid([]byte(got.body)) {
			t.Errorf("the audit after hostile headers: %d", got.status)
		}
	})
}

func isRequestID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// What cannot be read as a request is refused in the same form.
func TestWhatIsNoRequest(t *testing.T) {
	h := newHouse(t, options{})
	for what, raw := range map[string]string{
		"garbage":                    "\x16\x03\x01\x02\x00",
		"no target":                  "GET",
		"no version":                 "GET /ping",
		"an unknown version":         "GET /ping HTTP/9.9",
		"a control byte in the path": "GET /ping\x01 HTTP/1.1",
	} {
		refused(t, h, what, h.send(raw, nil, ""), "as a request line")
	}
	for what, line := range map[string]string{
		"a control byte in a header":   "X-Thing: a\x00b",
		"a header without a colon":     "X-Thing",
		"a header name with a blank":   "X Thing: a",
		"a second host":                "Host: other.test",
		"a body of two lengths":        "Content-Length: 1\r\nContent-Length: 2",
		"a negative length":            "Content-Length: -1",
		"an unknown transfer encoding": "Transfer-Encoding: gzip",
		"headers beyond the limit":     "X-Thing: " + strings.Repeat("a", 2<<20),
	} {
		got := h.send("POST /api/role/editor HTTP/1.1", []string{"Authorization: Bearer " + h.keys["manager"], line}, "")
		refused(t, h, what, got, "as a header")
	}
	if got := h.ask("nobody", "GET", "/ping"); got.status != 200 {
		t.Errorf("after all that /ping is %d", got.status)
	}
}

func TestABodyBeyondTheLimit(t *testing.T) {
	h := newHouse(t, options{})
	key := "Authorization: Bearer " + h.keys["manager"]
	if got := h.send("POST /api/role/editor HTTP/1.1", []string{key}, strings.Repeat("a", 1<<20)); got.status != 200 {
		t.Errorf("a body of 1 MiB: %d %s", got.status, got.body)
	}
	got := h.send("POST /api/role/editor HTTP/1.1", []string{key}, strings.Repeat("a", 1<<20+1))
	refused(t, h, "a body of 1 MiB and a byte", got, "")
	if got.status != 413 {
		t.Errorf("a body of 1 MiB and a byte: %d, want 413", got.status)
	}
}

// refused holds an answer to the form of a refusal: a 4xx, error J, the security
// headers, and nothing of the input that could act where it is shown.
func refused(t *testing.T, h *house, what string, got answer, where string) {
	t.Helper()
	if got.status < 400 || got.status > 499 {
		t.Errorf("%s, %s: %d %.200s: want a 4xx", what, where, got.status, got.body)
		return
	}
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		t.Errorf("%s, %s: %d with a body that is no JSON: %.200s", what, where, got.status, got.body)
		return
	}
	message := body["message"]
	want := `{"success": false, "code": ` + strconv.Itoa(got.status) + `, "message": "<any>", "details": {}, "timestamp": "<time>"}`
	if err := got.match(got.status, want); err != nil || message == "" {
		t.Errorf("%s, %s: %v in %.200s", what, where, err, got.body)
	}
	if strings.ContainsAny(got.body, "<>\x00\x7f") || len(got.body) > 2000 {
		t.Errorf("%s, %s: the body shows it as it is: %.200s", what, where, got.body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"X-XSS-Protection": "1; mode=block", "Content-Security-Policy": "default-src 'self'", "Set-Cookie": "",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s, %s: %s: %q, want %q", what, where, name, got.header.Get(name), want)
		}
	}
}
