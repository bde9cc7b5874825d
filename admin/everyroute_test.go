package admin_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"portcullis/internal/store"
)

// Every route is attacked where anything of a request comes in: each name of its
// path, each parameter of its query, each member of its body, its headers. The answer
// is a 4xx in the form that the route's errors have, or what is said to be harmless
// in so many words; no row comes or goes but the audit's of the refusals.
func TestEveryRouteUnderAttack(t *testing.T) {
	for _, b := range countedBackends {
		t.Run(b.name, func(t *testing.T) {
			var count rowCounter
			h := newHouse(t, options{open: func(t testing.TB) (st store.Store) { st, count = b.open(t); return st }})
			for _, prepared := range []string{"/api/role/editor", "/api/permission/editor/edit_content", "/api/membership/alice/editor", "/api/apikeys/user/alice"} {
				if got := h.ask("manager", "POST", prepared); got.status != 200 {
					t.Fatalf("%s: %d %s", prepared, got.status, got.body)
				}
			}
			total, routes := 0, h.api.Routes()
			for route := range attacks {
				if !slices.Contains(routes, route) {
					t.Errorf("%s is attacked, and there is no such route", route)
				}
			}
			for _, route := range routes {
				a, ok := attacks[route]
				if !ok {
					t.Errorf("%s has no attack: add it to attacks, with every parameter and member that it reads", route)
					continue
				}
				before, revision := count(t), h.revision()
				sent := a.run(t, h, route)
				if wrong := sameRows(before, count(t)); wrong != "" || h.revision() != revision {
					t.Errorf("%s: the attacks changed %s, and made %d writes", route, wrong, h.revision()-revision)
				}
				if sent < 4 {
					t.Errorf("%s was attacked %d times", route, sent)
				}
				total += sent
			}
			t.Logf("%d requests to %d routes", total, len(routes))
			if log := h.log.String(); strings.Contains(log, "panic") {
				t.Error("a handler panicked")
			}
		})
	}
}

// assault is one route under attack.
type assault struct {
	attack
	t      *testing.T
	h      *house
	route  string
	method string
	target string // with good names
	sent   int
}

func (a attack) run(t *testing.T, h *house, route string) int {
	t.Helper()
	method, pattern, _ := strings.Cut(route, " ")
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") {
			if names[s] == "" {
				t.Errorf("%s: no name for %s", route, s)
			}
			segments[i] = names[s]
		}
	}
	r := &assault{attack: a, t: t, h: h, route: route, method: method, target: strings.Join(segments, "/")}
	r.paths(strings.Split(pattern, "/"), segments)
	r.queries()
	r.members()
	r.bodies()
	r.forms()
	r.headers()
	return r.sent
}

func (r *assault) oauth() bool { return strings.HasPrefix(r.target, "/oauth/") }

// ask sends one request, as the caller in the way that the route wants.
func (r *assault) ask(target, body string, lines ...string) answer {
	r.t.Helper()
	r.sent++
	if r.oauth() {
		return r.h.send(r.method+" "+target+" HTTP/1.1", append(lines, formType, r.h.as(r.caller)), body)
	}
	caller := r.caller
	if caller == "" {
		caller = "nobody"
	}
	return r.h.askWith(caller, r.method, target, body, lines...)
}

// refused holds the answer to the form of the route's refusals. What net/http or the
// router refuse before they know the route has the API's form.
func (r *assault) refused(got answer, what, where string) {
	r.t.Helper()
	if !r.oauth() || strings.Contains(got.body, `"success"`) && (got.status == 400 || got.status == 414 || got.status == 431) {
		refused(r.t, r.h, what, got, r.route+", "+where)
		return
	}
	var body map[string]string
	err := json.Unmarshal([]byte(got.body), &body)
	if err != nil || got.status < 400 || got.status > 499 || len(body) != 2 || !strings.HasPrefix(body["error"], "invalid_") && !strings.HasPrefix(body["error"], "unsupported_") ||
		body["error_description"] == "" || strings.ContainsAny(got.body, "<>\x00\x7f") || len(got.body) > 2000 || got.header.Get("Content-Type") != "application/json" {
		r.t.Errorf("%s, %s, %s: %d %.300s: want a 4xx as RFC 6749 has it", r.route, where, what, got.status, got.body)
	}
}

// read holds the answer of a route that takes no notice to anything but a fault.
func (r *assault) read(got answer, what, where string) {
	r.t.Helper()
	if got.status != 200 && (got.status < 400 || got.status > 499) {
		r.t.Errorf("%s, %s, %s: %d %.300s", r.route, where, what, got.status, got.body)
	}
}

func (r *assault) paths(pattern, good []string) {
	for i, s := range pattern {
		if !strings.HasPrefix(s, "{") {
			continue
		}
		for what, text := range hostile {
			segments := slices.Clone(good)
			segments[i] = text
			r.refused(r.ask(strings.Join(segments, "/"), ""), what, "as "+s)
		}
	}
}

// twice is a query in which two readers might find different values.
const twice = "%s=1&%[1]s=2"

func (r *assault) queries() {
	for what, text := range hostile {
		for _, name := range r.query {
			r.parameter(name, text, what)
		}
		if r.method == "GET" {
			r.read(r.ask(r.target+"?x="+text+"&"+text+"=x", ""), what, "in the query of a read")
		}
	}
	for _, name := range r.query {
		r.refused(r.ask(r.target+"?"+fmt.Sprintf(twice, name), ""), "twice", "in the query as "+name)
		r.refused(r.ask(r.target+"?%zz", ""), "a broken escape", "as the query")
		r.refused(r.ask(r.target+"?a;b", ""), "a semicolon", "as the query")
		for _, number := range []string{"-1", "1e9", "0x10", "99999999999999999999999999", "NaN", "1.5", "%D9%A1"} {
			r.parameter(name, number, number)
		}
	}
}

// parameter sends one value of a query's parameter. What the contract takes at its
// word is read without a fault.
func (r *assault) parameter(name, text, what string) {
	r.t.Helper()
	decoded, err := url.QueryUnescape(text)
	if takes := r.takes[name]; err == nil && takes != nil && takes(decoded) && !strings.ContainsAny(text, ";&#") {
		r.read(r.ask(r.target+"?"+name+"="+text, ""), what, "in the query as "+name)
		return
	}
	r.refused(r.ask(r.target+"?"+name+"="+text, ""), what, "in the query as "+name)
}

// values are hostile values of JSON members: of every type, and as strings what is
// hostile in a path.
func values() map[string]string {
	out := map[string]string{
		"null": "null", "true": "true", "false": "false", "zero": "0", "minus one": "-1", "a fraction": "1.5", "a huge number": "1e999",
		"more digits than fit": strings.Repeat("9", 400), "an empty string": `""`, "an empty list": "[]", "an empty object": "{}", "a list": `["x"]`,
		"an object": `{"a":1}`, "a nest of lists": strings.Repeat("[", 10000) + strings.Repeat("]", 10000),
		"a nest of objects": strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000),
		"an escaped nul":    `"a\u0000b"`, "half a surrogate": `"\ud800"`, "escaped markup": `"\u003cscript\u003e"`, "the other way round": `"\u202e"`,
		"a raw nul": "\"a\x00b\"", "a raw line feed": "\"a\nb\"", "invalid utf-8": "\"a\xffb\"", "an overlong slash": "\"\xc0\xaf\"",
		"900 KiB": `"` + strings.Repeat("a", 900<<10) + `"`, "2 MiB": `"` + strings.Repeat("a", 2<<20) + `"`,
		"no value": "", "a word": "undefined", "a single quote": "'x'", "NaN": "NaN", "a leading zero": "01", "an open string": `"x`,
	}
	for what, text := range hostile {
		if decoded, err := url.PathUnescape(text); err == nil && len(decoded) < 64<<10 {
			encoded, err := json.Marshal(decoded)
			if err == nil && string(encoded) != "" && !strings.ContainsRune(decoded, '\ufffd') {
				out["a string: "+what] = string(encoded)
			}
		}
	}
	return out
}

// body writes a JSON object of the good members, with one of them replaced.
func (r *assault) body(name, value string) string {
	parts := []string{`"` + name + `":` + value}
	for other, m := range r.json {
		if other != name && m.good != "" {
			parts = append(parts, `"`+other+`":`+m.good)
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (r *assault) members() {
	all := values()
	for name, m := range r.json {
		for what, value := range all {
			body := r.body(name, value)
			if m.admits != nil && m.admits(value) {
				// It is what the contract takes at its word: no 4xx is due but for
				// what else is wrong.
				body = body[:len(body)-1] + `,"` + name + `":` + value + "}"
			}
			r.refused(r.ask(r.target, body), what, "as "+name)
		}
		for what, twin := range map[string]string{"twice": name, "twice, once escaped": fmt.Sprintf(`\u%04x%s`, name[0], name[1:])} {
			good := r.body(name, orString(m.good, `"x"`))
			r.refused(r.ask(r.target, good[:len(good)-1]+`,"`+twin+`":`+orString(m.good, `"x"`)+"}"), what, "member "+name)
		}
	}
}

func orString(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

// bodies that are no object, or too much of one.
func (r *assault) bodies() {
	if r.json == nil {
		if r.method == "GET" {
			r.read(r.ask(r.target, "{\x00"), "a body", "of a read")
		}
		if r.method != "GET" && !r.oauth() {
			got := r.ask(r.target, strings.Repeat("a", 1<<20+1))
			r.refused(got, "1 MiB and a byte", "as the body")
		}
		return
	}
	good := r.body(r.first(), r.json[r.first()].good)
	bodies := map[string]string{
		"null": "null", "a list": "[]", "a list of one": "[" + good + "]", "a string": `"x"`, "a number": "1", "a word": "x", "a form": "a=b", "xml": "<a/>",
		"a nul": "\x00", "a byte order mark": "\ufeff" + good, "utf-16": "{\x00}\x00", "two objects": good + good, "a trailing comma": good[:len(good)-1] + ",}",
		"cut short": good[:len(good)-1], "a comment": good + "//", "a nul behind": good + "\x00", "invalid utf-8 in a name": "{\"\xff\":1," + good[1:],
		"an unknown name twice": `{"x":1,"x":2,` + good[1:], "a nest": `{"x":` + strings.Repeat("[", 100000), "a nest that closes": `{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "," + good[1:],
		"a number that is none": `{"x":1.e5,` + good[1:], "1 MiB and more": good[:len(good)-1] + strings.Repeat(" ", 1<<20) + "}", "a body of blanks": "  ",
	}
	if !r.empty {
		bodies["nothing"] = ""
		bodies["an empty object"] = "{}"
	}
	for what, body := range bodies {
		r.refused(r.ask(r.target, body), what, "as the body")
	}
}

// first is the member that a body cannot do without.
func (r *assault) first() string {
	var required []string
	for name, m := range r.json {
		if m.good != "" && name != "expires_in" {
			required = append(required, name)
		}
	}
	return slices.Min(required)
}

func (r *assault) forms() {
	for _, f := range r.attack.forms {
		for _, name := range f.attacked {
			for what, text := range hostile {
				form := url.Values{}
				for n, v := range f.form {
					if n != name {
						form[n] = v
					}
				}
				body := form.Encode() + "&" + name + "=" + text
				decoded, err := url.QueryUnescape(text)
				if err == nil && f.admits != nil && f.admits(decoded) && !strings.ContainsAny(text, ";&") && len(body) < 64<<10 {
					if f.harmless != "" {
						if got := r.ask(r.target, body); got.status != 200 || strings.TrimSpace(got.body) != f.harmless {
							r.t.Errorf("%s, %s as %s: %d %.200s, want %s", r.route, what, name, got.status, got.body, f.harmless)
						}
						continue
					}
					body += "&" + name + "=" + text
				}
				r.refused(r.ask(r.target, body), what, "in the form as "+name)
			}
			good := f.form.Encode()
			for what, body := range map[string]string{
				"twice": good + "&" + name + "=a&" + name + "=b", "a broken escape": good + "&" + name + "=%zz", "a nul": good + "&" + name + "=%00",
				"a semicolon": good + ";" + name + "=x", "65 parameters": good + strings.Repeat("&a=b", 65), "64 KiB": good + "&x=" + strings.Repeat("a", 64<<10),
				"json": `{"` + name + `":"x"}`, "2 MiB": good + "&x=" + strings.Repeat("a", 2<<20), "nothing": "",
			} {
				r.refused(r.ask(r.target, body), what, "as the form")
			}
		}
	}
}

func (r *assault) headers() {
	if !strings.HasPrefix(r.target, "/api/") && !r.oauth() {
		return
	}
	scheme := "Bearer"
	if r.oauth() {
		scheme = "Basic"
	}
	for what, text := range hostile {
		if len(text) > 8<<10 {
			continue
		}
		decoded, err := url.PathUnescape(text)
		if err != nil || strings.ContainsAny(decoded, "\x00\r\n\x1b\x7f") {
			decoded = text
		}
		sealed := base64.StdEncoding.EncodeToString([]byte(decoded))
		for _, value := range []string{decoded, scheme + " " + decoded, scheme + " " + sealed, "Basic " + sealed + ":" + sealed, "Basic " + base64.StdEncoding.EncodeToString([]byte(decoded+":"+decoded))} {
			r.sent++
			line := r.method + " " + r.target + " HTTP/1.1"
			if got := r.h.send(line, []string{"Authorization: " + value, formType}, ""); got.status != 401 && got.status != 400 {
				r.t.Errorf("%s, %s as Authorization: %d %.200s", r.route, what, got.status, got.body)
			}
		}
	}
	if r.target == "/api/keys/rotate" {
		for _, value := range []string{"", " ", "\xff", "é", "a\x7fb", strings.Repeat("a", 256)} {
			r.refused(r.ask(r.target, "", "Idempotency-Key: "+value), value, "as Idempotency-Key")
		}
		r.refused(r.ask(r.target, "", "Idempotency-Key: a", "Idempotency-Key: b"), "two", "as Idempotency-Key")
	}
	if r.oauth() {
		for _, line := range []string{"Content-Type: application/json", "Content-Type: text/plain\x80", "Content-Encoding: gzip", formType} {
			r.refused(r.ask(r.target, "a=b", line), line, "as a header")
		}
	}
}
