// Package transcript plays recorded conversations with the admin API against any
// server of it, over HTTP in the clear: one that a test made, or a running
// `portcullis serve`.
//
// A file is a txtar archive that begins with an empty tenant, and each of its
// sections is one request and what must come back:
//
//	-- CALLER: METHOD TARGET --
//	# a comment
//	> Header: sent with the request
//	< a line of the request's body
//	STATUS what the body must be
//	Header: what the response must carry
//
// The caller is the name of a key; "nobody" sends none. What the body must be is
// JSON, compared whole; or for short `data JSON`, the wrapped envelope around it;
// or plain words, error J with that message; or nothing, for no body. In JSON
// "<any>", "<time>", "<number>", "<uuid>", "<rak>", "<prefix>" and "<fpr>" stand
// for every value of that form, and "<uuid:NAME>" keeps it, so that ${NAME} stands
// for it in the sections that follow, also in what is sent. A header is compared
// whole; "<any>" is anything but absent, "<none>" is absent, and of
// X-Auth-Revision "+1" is one more than the last one that the file was told.
package transcript

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// Server is whom to play against.
type Server struct {
	Addr string            // host:port
	Keys map[string]string // client keys by caller
}

// Answer is one response.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Send writes a request as it stands, byte by byte, and reads the response. Lines
// are headers. It takes a minute at most.
func (s Server) Send(requestLine string, lines []string, body string) (Answer, error) {
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return Answer{}, err
	}
	var b bytes.Buffer
	b.WriteString(requestLine + "\r\nHost: admin.test\r\nConnection: close\r\n")
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	if body != "" {
		b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	b.WriteString("\r\n" + body)
	go conn.Write(b.Bytes()) // a refusal may come before all of it is read
	method, _, _ := strings.Cut(requestLine, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return Answer{response.StatusCode, response.Header, string(text)}, err
}

// player is one file under way.
type player struct {
	Server
	kept     map[string]string
	revision int64 // the last one that the file was told
}

// OpenTenancy reports whether a file is for a server with AUTH_OPEN_TENANCY=true: its
// name begins with "open-".
func OpenTenancy(file string) bool { return strings.HasPrefix(filepath.Base(file), "open-") }

// Play plays one file. Each difference is an error of t, with the section's title.
func Play(t testing.TB, s Server, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{Server: s, kept: map[string]string{}}
	for _, section := range archive.Files {
		title := section.Name
		section.Name, section.Data = p.expand(section.Name), []byte(p.expand(string(section.Data)))
		e, err := parseExchange(section)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, title, err)
		}
		if err := p.exchange(e); err != nil {
			t.Errorf("-- %s --\n%v", title, err)
		}
	}
}

// expand puts in what was kept.
func (p *player) expand(text string) string {
	return os.Expand(text, func(name string) string {
		if value, ok := p.kept[name]; ok {
			return value
		}
		return "${" + name + "}"
	})
}

func (p *player) exchange(e exchange) error {
	lines := e.sent
	if e.caller != "nobody" {
		key, ok := p.Keys[e.caller]
		if !ok {
			return fmt.Errorf("no caller %q", e.caller)
		}
		lines = append(lines, "Authorization: Bearer "+key)
	}
	got, err := p.Send(e.method+" "+e.target+" HTTP/1.1", lines, e.sentBody)
	if err != nil {
		return err
	}
	if got.Status != e.status {
		return fmt.Errorf("got  %d %s\nwant %d %s", got.Status, got.Body, e.status, e.body)
	}
	if err := p.matchBody(e, got.Body); err != nil {
		return fmt.Errorf("%w\ngot  %s\nwant %s", err, got.Body, e.body)
	}
	for _, line := range e.headers {
		name, want, _ := strings.Cut(line, ": ")
		if err := p.matchHeader(got.Header, name, want); err != nil {
			return err
		}
	}
	if n, err := strconv.ParseInt(got.Header.Get("X-Auth-Revision"), 10, 64); err == nil {
		p.revision = n
	}
	return nil
}

func (p *player) matchHeader(h http.Header, name, want string) error {
	have, values := h.Get(name), h.Values(name)
	if step, ok := strings.CutPrefix(want, "+"); ok && name == "X-Auth-Revision" {
		n, err := strconv.ParseInt(step, 10, 64)
		if err != nil {
			return err
		}
		if want = "<any>"; p.revision > 0 {
			want = strconv.FormatInt(p.revision+n, 10)
		}
	}
	switch {
	case want == "<any>" && have != "", want == "<none>" && len(values) == 0, have == want:
		return nil
	}
	return fmt.Errorf("%s: %q: want %q", name, have, want)
}

type exchange struct {
	caller, method, target string
	sent                   []string
	status                 int
	sentBody               string
	body                   string // as written in the file
	headers                []string
}

var headerLine = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*: `)

func parseExchange(f txtar.File) (exchange, error) {
	var e exchange
	caller, line, _ := strings.Cut(f.Name, ": ")
	method, target, ok := strings.Cut(line, " ")
	if !ok {
		return e, fmt.Errorf("no CALLER: METHOD TARGET")
	}
	e.caller, e.method, e.target = caller, method, target
	var body, sentBody []string
	for _, line := range strings.Split(strings.TrimSpace(string(f.Data)), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "< "):
			sentBody = append(sentBody, line[2:])
		case strings.HasPrefix(line, "> "):
			e.sent = append(e.sent, line[2:])
		case e.status == 0:
			status, rest, _ := strings.Cut(line, " ")
			n, err := strconv.Atoi(status)
			if err != nil {
				return e, fmt.Errorf("want a status: %q", line)
			}
			e.status = n
			body = append(body, rest)
		case headerLine.MatchString(line):
			e.headers = append(e.headers, line)
		default:
			body = append(body, line)
		}
	}
	e.sentBody = strings.Join(sentBody, "\n")
	e.body = strings.TrimSpace(strings.Join(body, "\n"))
	return e, nil
}

// matchBody compares the response's body with what the file says.
func (p *player) matchBody(e exchange, got string) error {
	want := map[string]any{}
	data, wrapped := strings.CutPrefix(e.body, "data ")
	switch {
	case e.body == "":
		if got != "" {
			return fmt.Errorf("want no body")
		}
		return nil
	case wrapped:
		var v any
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			return fmt.Errorf("the transcript's JSON: %w", err)
		}
		want = map[string]any{"success": true, "code": float64(e.status), "message": "<any>", "data": v, "timestamp": "<time>"}
	case strings.HasPrefix(e.body, "{"):
		if err := json.Unmarshal([]byte(e.body), &want); err != nil {
			return fmt.Errorf("the transcript's JSON: %w", err)
		}
	default:
		want = map[string]any{"success": false, "code": float64(e.status), "message": e.body, "details": map[string]any{}, "timestamp": "<time>"}
	}
	var have any
	if err := json.Unmarshal([]byte(got), &have); err != nil {
		return fmt.Errorf("the response is no JSON: %w", err)
	}
	return p.matchJSON("$", have, want)
}

// forms are what a blank stands for. A value that is no string is compared
// as it is written in JSON.
var forms = map[string]*regexp.Regexp{
	"any":    regexp.MustCompile(`(?s)^.*$`),
	"number": regexp.MustCompile(`^-?\d+(\.\d+)?$`),
	"time":   regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?"$`),
	"uuid":   regexp.MustCompile(`^"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"$`),
	"rak":    regexp.MustCompile(`^"rak_[0-9A-Za-z]{43}"$`),
	"prefix": regexp.MustCompile(`^"rak_[0-9A-Za-z]{8}"$`),
	"fpr":    regexp.MustCompile(`^"fpr_[0-9a-f]{32}"$`),
}

var blank = regexp.MustCompile(`^<([a-z]+)(?::([a-z_0-9]+))?>$`)

// matchText compares a value with a string of the transcript, and keeps it where
// the string is a blank with a name.
func (p *player) matchText(have any, want string) bool {
	m := blank.FindStringSubmatch(want)
	if m == nil || forms[m[1]] == nil {
		return have == want
	}
	text, err := json.Marshal(have)
	if err != nil || !forms[m[1]].Match(text) {
		return false
	}
	if m[2] != "" {
		p.kept[m[2]] = fmt.Sprint(have)
	}
	return true
}

func (p *player) matchJSON(path string, have, want any) error {
	switch w := want.(type) {
	case string:
		if p.matchText(have, w) {
			return nil
		}
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			break
		}
		for k := range h {
			if _, ok := w[k]; !ok {
				return fmt.Errorf("%s.%s is not expected", path, k)
			}
		}
		for k, v := range w {
			if _, ok := h[k]; !ok {
				return fmt.Errorf("%s.%s is absent", path, k)
			}
			if err := p.matchJSON(path+"."+k, h[k], v); err != nil {
				return err
			}
		}
		return nil
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			break
		}
		for i := range w {
			if err := p.matchJSON(fmt.Sprintf("%s[%d]", path, i), h[i], w[i]); err != nil {
				return err
			}
		}
		return nil
	default:
		if reflect.DeepEqual(have, want) {
			return nil
		}
	}
	return fmt.Errorf("%s is %v: want %v", path, have, want)
}

// Match compares a response with a status and a body in the words of a transcript.
func (a Answer) Match(status int, body string) error {
	if a.Status != status {
		return fmt.Errorf("got %d %s\nwant %d %s", a.Status, a.Body, status, body)
	}
	p := &player{kept: map[string]string{}}
	return p.matchBody(exchange{status: status, body: body}, a.Body)
}
