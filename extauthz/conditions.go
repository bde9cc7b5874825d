package extauthz

import (
	"bytes"

	"portcullis/policy"
)

// request makes what conditions read of the check's request. It copies: a condition
// is evaluated by a library, and nothing there may point into the request's bytes
// once they are reused.
func (k *check) request() *policy.Request {
	_, query, _ := bytes.Cut(k.view.path, []byte{'?'})
	return &policy.Request{
		Method: string(k.view.method), Host: string(k.host), Path: string(k.path), Query: string(query),
		Facts: requestFacts{k},
	}
}

// requestFacts answers by name from the request of a check.
type requestFacts struct{ k *check }

// Header is policy.Facts. http.headers joins the values of a header that came twice
// with commas, so a value with a comma there counts as two; http.header_map keeps
// them apart.
func (f requestFacts) Header(name string) (value string, times int) {
	list, joined := f.k.view.rawHeaders, false
	if len(list) == 0 {
		list, joined = f.k.view.headers, true
	}
	for i := range list {
		if !named(list[i].key, name) {
			continue
		}
		times++
		if joined && bytes.IndexByte(list[i].value, ',') >= 0 {
			times++
		}
		value = string(list[i].value)
	}
	return value, times
}

// Extension is policy.Facts.
func (f requestFacts) Extension(key string) (string, bool) {
	value, ok := f.k.view.extension(key)
	return string(value), ok
}

// Claims is policy.Facts.
func (f requestFacts) Claims(names []string) (map[string]any, bool) {
	if f.k.token == nil {
		return nil, true
	}
	return f.k.token.Claims(names)
}
