package admin_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestTranscripts plays testdata/*.txtar on every store. A file is one house,
// and each of its sections is one request and what must come back:
//
//	-- CALLER: METHOD TARGET --
//	# a comment
//	> Header: sent with the request
//	STATUS what the body must be
//	Header: what the response must carry
//
// What the body must be is JSON, compared whole; or for short `data JSON`, the
// wrapped envelope around it; or plain words, error J with that message.
// In JSON "<any>" is anything, "<time>" a timestamp, "<number>" a number. A
// header is compared whole; "<any>" is anything but absent, "<none>" is absent,
// and of X-Auth-Revision "+1" is one more than before the request.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		must(t, err)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			onEveryStore(t, func(t *testing.T, h *house) { play(t, h, archive) })
		})
	}
}

func play(t *testing.T, h *house, archive *txtar.Archive) {
	for _, section := range archive.Files {
		e, err := parseExchange(section)
		if err != nil {
			t.Fatalf("%s: %v", section.Name, err)
		}
		before := h.revision()
		got := h.ask(e.caller, e.method, e.target, e.sent...)
		if got.status != e.status {
			t.Errorf("-- %s --\ngot  %d %s\nwant %d %s", section.Name, got.status, got.body, e.status, e.body)
			continue
		}
		if err := e.matchBody(got.body); err != nil {
			t.Errorf("-- %s --\n%v\ngot  %s\nwant %s", section.Name, err, got.body, e.body)
		}
		for _, line := range e.headers {
			name, want, _ := strings.Cut(line, ": ")
			values, have := got.header[name], got.header.Get(name)
			if name == "X-Auth-Revision" && strings.HasPrefix(want, "+") {
				n, _ := strconv.ParseInt(want[1:], 10, 64)
				want = strconv.FormatInt(before+n, 10)
			}
			switch want {
			case "<any>":
				if have == "" {
					t.Errorf("-- %s --\nno header %s", section.Name, name)
				}
			case "<none>":
				if len(values) != 0 {
					t.Errorf("-- %s --\n%s: %s: want it absent", section.Name, name, have)
				}
			default:
				if have != want {
					t.Errorf("-- %s --\n%s: %q: want %q", section.Name, name, have, want)
				}
			}
		}
	}
}

type exchange struct {
	caller, method, target string
	sent                   []string
	status                 int
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
	var body []string
	for _, line := range strings.Split(strings.TrimSpace(string(f.Data)), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
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
	e.body = strings.TrimSpace(strings.Join(body, "\n"))
	return e, nil
}

// matchBody compares the response's body with what the file says.
func (e exchange) matchBody(got string) error {
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
	return matchJSON("$", have, want)
}

var timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?$`)

func matchJSON(path string, have, want any) error {
	switch w := want.(type) {
	case string:
		s, isString := have.(string)
		_, isNumber := have.(float64)
		switch {
		case w == "<any>",
			w == "<time>" && isString && timePattern.MatchString(s),
			w == "<number>" && isNumber,
			isString && s == w:
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
			if err := matchJSON(path+"."+k, h[k], v); err != nil {
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
			if err := matchJSON(fmt.Sprintf("%s[%d]", path, i), h[i], w[i]); err != nil {
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
