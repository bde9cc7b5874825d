package extauthz

import (
	"bytes"

	"portcullis/internal/identity"
	"portcullis/policy"
)

// received is what a check reads of a request's headers, gathered in one pass.
// Names are compared without regard to ASCII case, though Envoy sends them in
// lower case. Its slices are borrowed from the request.
type received struct {
	authorization identity.HeaderValue
	clientKey     identity.HeaderValue
	apiKey        identity.HeaderValue

	// keyInAuthorization says that an Authorization carries a key of ours, which must
	// not reach an upstream, whatever a rule forwards.
	keyInAuthorization bool

	grpc    bool // the caller expects a gRPC answer
	planted bool // a test build's request for a panic

	// disagrees says that a pseudo-header is not what the request's own field says:
	// raw bytes that Envoy had to replace, or two readings of one request.
	disagrees bool
}

// gather reads the headers of a view. A second value under one name is counted,
// not read: what several values mean is for the credentials' rules to say.
func (r *received) gather(v *view) {
	*r = received{}
	list := v.headers
	if len(v.rawHeaders) > 0 {
		list = v.rawHeaders
	}
	for i := range list {
		h := &list[i]
		switch len(h.key) {
		case len(":path"):
			if string(h.key) == ":path" && !bytes.Equal(h.value, v.path) {
				r.disagrees = true
			}
		case len(":method"):
			if string(h.key) == ":method" && !bytes.Equal(h.value, v.method) {
				r.disagrees = true
			}
		case len(":authority"):
			if string(h.key) == ":authority" && !bytes.Equal(h.value, v.host) {
				r.disagrees = true
			}
		case len(policy.HeaderAPIKey):
			count(&r.apiKey, h, policy.HeaderAPIKey)
		case len(policy.HeaderClientKey):
			if named(h.key, "content-type") {
				r.grpc = isGRPC(h.value)
			}
			count(&r.clientKey, h, policy.HeaderClientKey)
		case len(policy.HeaderAuthorization):
			if plantPanic && named(h.key, "x-plant-panic") {
				r.planted = true
			}
			if count(&r.authorization, h, policy.HeaderAuthorization) && carriesKey(h.value) {
				r.keyInAuthorization = true
			}
		}
	}
}

// count takes h if it has the name.
func count(into *identity.HeaderValue, h *header, name string) bool {
	if !named(h.key, name) {
		return false
	}
	if into.Count == 0 {
		into.Value = h.value
	}
	into.Count++
	return true
}

// named compares a received name with a lower-case one, in any ASCII case.
func named(key []byte, name string) bool {
	if len(key) != len(name) {
		return false
	}
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// isGRPC says of a content type what Envoy says of it when it answers by itself:
// application/grpc alone, with a subtype after '+', or with a parameter.
func isGRPC(contentType []byte) bool {
	const name = "application/grpc"
	if len(contentType) < len(name) || !named(contentType[:len(name)], name) {
		return false
	}
	if len(contentType) == len(name) {
		return true
	}
	c := contentType[len(name)]
	return c == '+' || c == ';'
}

// carriesKey reports whether an Authorization value holds a user API key or a
// client key as a Bearer token: the value itself, or one of those that were joined
// with commas, as Envoy joins two lines of Authorization.
func carriesKey(value []byte) bool {
	for more := true; more; {
		var one []byte
		one, value, more = bytes.Cut(value, []byte{','})
		if isBearerKey(bytes.TrimLeft(one, " \t")) {
			return true
		}
	}
	return false
}

func isBearerKey(value []byte) bool {
	const scheme = "bearer "
	if len(value) < len(scheme) || !named(value[:len(scheme)], scheme) {
		return false
	}
	token := bytes.TrimLeft(value[len(scheme):], " ")
	if bytes.HasPrefix(token, []byte("rak_")) {
		return true
	}
	if len(token) < identity.ClientKeySize {
		return false
	}
	_, isKey := identity.ParseClientKey(token[:identity.ClientKeySize])
	return isKey
}

// headersDisagree reports whether http.headers and http.header_map, where a
// request has both, tell two stories. Envoy sends one of them. Where a header
// came twice, headers joins its values with commas and header_map keeps them
// apart; that is the same story.
func headersDisagree(v *view) bool {
	if len(v.headers) == 0 || len(v.rawHeaders) == 0 {
		return false
	}
	for i := range v.rawHeaders {
		if h := lastOf(v.headers, v.rawHeaders[i].key); h == nil || !joinsTo(v.rawHeaders, v.rawHeaders[i].key, h.value) {
			return true
		}
	}
	for i := range v.headers {
		if lastOf(v.rawHeaders, v.headers[i].key) == nil {
			return true
		}
	}
	return false
}

// lastOf finds the last header with a key, nil where there is none.
func lastOf(list []header, key []byte) *header {
	for i := len(list) - 1; i >= 0; i-- {
		if bytes.Equal(list[i].key, key) {
			return &list[i]
		}
	}
	return nil
}

// joinsTo reports whether the values under a key, joined with commas, are value.
func joinsTo(list []header, key, value []byte) bool {
	first := true
	for i := range list {
		if !bytes.Equal(list[i].key, key) {
			continue
		}
		if !first {
			if len(value) == 0 || value[0] != ',' {
				return false
			}
			value = value[1:]
		}
		first = false
		if !bytes.HasPrefix(value, list[i].value) {
			return false
		}
		value = value[len(list[i].value):]
	}
	return len(value) == 0
}
