package extauthz

// header is one name and value, as they came: slices of the request bytes.
type header struct {
	key   []byte
	value []byte
}

// maxHeaders is how many headers a request may carry; more are too_large.
const maxHeaders = 1000

// maxRequest is how many bytes a CheckRequest may have; more are too_large.
const maxRequest = 1 << 20

// view is a CheckRequest as a check reads it. Every slice points into the request
// bytes and is valid as long as they are. A field that is absent is nil, and reads
// as the empty text that protobuf takes it for. A view is reused: read resets it.
type view struct {
	method    []byte
	path      []byte // :path as Envoy saw it, with its query
	host      []byte
	scheme    []byte
	protocol  []byte
	id        []byte // Envoy's stream id
	principal []byte // source.principal, from mTLS
	seconds   int64  // request.time
	nanos     int32

	headers    []header // http.headers; where a key stands twice, the last one counts
	rawHeaders []header // http.header_map.headers, in order, duplicates kept
	extensions []header // context_extensions; where a key stands twice, the last one counts

	// tooMany says that there were more than maxHeaders headers of one sort; those
	// past it were validated and left out.
	tooMany bool

	// badText says that a string somewhere in the message is not UTF-8. The message
	// must be refused.
	badText bool

	// twoValues says that a header of header_map had both a value and a raw_value,
	// and that they differ. Envoy sends one.
	twoValues bool

	entry    header // the map entry or header that is being read
	entryRaw []byte
}

// retainedEntries bounds the lists that a reused view keeps.
const retainedEntries = 2 * maxHeaders

// reset empties the view and drops its hold on the former request's bytes.
func (v *view) reset() {
	headers, raw, extensions := v.headers, v.rawHeaders, v.extensions
	clear(headers)
	clear(raw)
	clear(extensions)
	if cap(extensions) > retainedEntries {
		extensions = nil
	}
	*v = view{headers: headers[:0], rawHeaders: raw[:0], extensions: extensions[:0]}
}

// extension finds a context extension by key. It is false where there is none.
func (v *view) extension(key string) ([]byte, bool) {
	for i := len(v.extensions) - 1; i >= 0; i-- {
		if string(v.extensions[i].key) == key {
			return v.extensions[i].value, true
		}
	}
	return nil, false
}

// store puts one scalar of the request into its place.
func (v *view) store(c capture, text []byte) {
	switch c {
	case capturePrincipal:
		v.principal = text
	case captureID:
		v.id = text
	case captureMethod:
		v.method = text
	case capturePath:
		v.path = text
	case captureHost:
		v.host = text
	case captureScheme:
		v.scheme = text
	case captureProtocol:
		v.protocol = text
	case captureKey:
		v.entry.key = text
	case captureValue:
		v.entry.value = text
	case captureRawValue:
		v.entryRaw = text
	}
}

// number puts one number of the request into its place, cut to its field's width
// as protobuf cuts it.
func (v *view) number(c capture, n uint64) {
	switch c {
	case captureSeconds:
		v.seconds = int64(n)
	case captureNanos:
		v.nanos = int32(n)
	}
}

// begin forgets the entry that was read before this one.
func (v *view) begin() {
	v.entry = header{}
	v.entryRaw = nil
}

// end files the entry that was read.
func (v *view) end(c capture) {
	switch c {
	case captureHeader:
		if len(v.headers) >= maxHeaders {
			v.tooMany = true
			return
		}
		v.headers = append(v.headers, v.entry)
	case captureRawHeader:
		if len(v.rawHeaders) >= maxHeaders {
			v.tooMany = true
			return
		}
		if len(v.entryRaw) > 0 {
			if len(v.entry.value) > 0 && string(v.entry.value) != string(v.entryRaw) {
				v.twoValues = true
			}
			v.entry.value = v.entryRaw
		}
		v.rawHeaders = append(v.rawHeaders, v.entry)
	case captureExtension:
		v.extensions = append(v.extensions, v.entry)
	}
}
