package admin

import (
	"encoding/json"
	"net/http"
	"time"
)

// envelope is the shape of a route's 200 body.
type envelope uint8

const (
	envelopeBare    envelope = iota // {"result": ...}
	envelopeWrapped                 // {"success", "code", "message", "data", "timestamp"}
	envelopeRaw                     // the value itself
)

// reply is what a handler answers: the value, and for wrapped routes the words
// beside it; or a stream.
type reply struct {
	status  int // 0 is 200
	value   any
	message string
	// stream writes the body as it comes, with status 200, in place of value.
	stream func(http.ResponseWriter) error
}

type bareBody struct {
	Result any `json:"result"`
}

type wrappedBody struct {
	Success   bool   `json:"success"`
	Code      int    `json:"code"`
	Message   string `json:"message"`
	Data      any    `json:"data"`
	Timestamp string `json:"timestamp"`
}

// errorBody is error J. Details is always the empty object.
type errorBody struct {
	Success   bool     `json:"success"`
	Code      int      `json:"code"`
	Message   string   `json:"message"`
	Details   struct{} `json:"details"`
	Timestamp string   `json:"timestamp"`
}

// encode returns the body of a reply in its route's envelope.
func (r reply) encode(e envelope, now time.Time) (status int, body []byte, err error) {
	status = r.status
	if status == 0 {
		status = http.StatusOK
	}
	var v any
	switch e {
	case envelopeBare:
		v = bareBody{r.value}
	case envelopeWrapped:
		v = wrappedBody{Success: true, Code: status, Message: r.message, Data: r.value, Timestamp: timestamp(now)}
	case envelopeRaw:
		v = r.value
	}
	body, err = json.Marshal(v)
	return status, append(body, '\n'), err
}

// encodeError returns the body of error J. It cannot fail: its parts are an int
// and strings.
func encodeError(status int, message string, now time.Time) []byte {
	body, err := json.Marshal(errorBody{Code: status, Message: message, Timestamp: timestamp(now)})
	if err != nil {
		return []byte(`{"success":false,"code":500,"message":"` + messageInternal + `","details":{},"timestamp":""}` + "\n")
	}
	return append(body, '\n')
}

// timestamp writes a time as Auth does: UTC, without a zone, microseconds only
// where there are any.
func timestamp(t time.Time) string {
	t = t.UTC().Truncate(time.Microsecond)
	if t.Nanosecond() == 0 {
		return t.Format("2006-01-02T15:04:05")
	}
	return t.Format("2006-01-02T15:04:05.000000")
}

// timeOrNull is a time as JSON shows it: null for the zero time.
func timeOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return orNull(timestamp(t))
}
