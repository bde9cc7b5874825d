package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// Messages that more than one place gives.
const (
	messageInternal   = "An internal error occurred"
	messageUnready    = "The service cannot answer right now. Try again shortly."
	messageUnreadable = "A stored value does not open: it was changed, or its key is missing."
	messageInvalidKey = "Invalid client key. Must be a valid UUID4."
)

// failure is an answer that is not a 200: what the caller reads, and for the
// log the cause that the caller does not.
type failure struct {
	status  int
	oauth   string // the error code of RFC 6749, under /oauth; "" follows from status
	message string
	reason  policy.Reason // of a failed authentication; else ReasonInternal
	limit   string        // that a 429 stands for; "" for another reason
	// badGrant says that a valid client brought a token that opens nothing.
	badGrant bool
	allow    []string // the methods of a 405
	cause    error
	body     any // instead of error J, where Auth answers something else
}

// encode returns the body of the answer.
func (f *failure) encode(now time.Time) []byte {
	if f.body != nil {
		if body, err := json.Marshal(f.body); err == nil {
			return append(body, '\n')
		}
	}
	return encodeError(f.status, f.message, now)
}

func (f *failure) Error() string {
	if f.cause != nil {
		return f.message + ": " + f.cause.Error()
	}
	return f.message
}

func (f *failure) Unwrap() error { return f.cause }

// badRequest is a 400 that names what is wrong.
func badRequest(message string) *failure {
	return &failure{status: http.StatusBadRequest, message: message}
}

// Faults of this package's own that the table knows.
var (
	// errUnserved: the caller's tenant is not among those that this process serves
	// (AUTH_TENANTS), so its cache knows nothing of it.
	errUnserved   = errors.New("the tenant is not served by this process")
	errOverloaded = errors.New("too many loads wait for the store")
	// errBroken: a load of the cache panicked or met a value that does not open. The
	// cache has logged which.
	errBroken = errors.New("what the answer needs could not be loaded")
)

// faultTable is the one place that says what the caller is told of an error from
// the store or from the way to it. The first match wins; no match is 500.
var faultTable = []struct {
	matches func(error) bool
	status  int
	message string
	body    any // see failure.body
}{
	{is(store.ErrNotFound), http.StatusNotFound, "Not found.", nil},
	{is(store.ErrKeyCap), http.StatusBadRequest, "The user has " + strconv.Itoa(store.MaxUserKeys) + " active API keys, the most there may be. Revoke one first.", nil},
	{is(store.ErrNotKeyBacked), http.StatusConflict, hintNotKeyBacked, notKeyBacked{Reason: reasonNotKeyBacked, Hint: hintNotKeyBacked}},
	{is(store.ErrExists), http.StatusConflict, "It exists already.", nil},
	{is(store.ErrRevoked), http.StatusConflict, "It was revoked.", nil},
	{is(store.ErrCycle), http.StatusConflict, "The role would inherit from itself.", nil},
	// Which value it is the log says, and not the answer.
	{is(store.ErrUnreadable), http.StatusInternalServerError, messageUnreadable, nil},
	{is(store.ErrEncryption), http.StatusServiceUnavailable, messageUnready, nil},
	{is(store.ErrKeyGone), http.StatusServiceUnavailable, messageUnready, nil}, // keys were replaced under it, again and again
	{is(errBroken), http.StatusInternalServerError, messageInternal, nil},
	{is(store.ErrSchema), http.StatusServiceUnavailable, messageUnready, nil},
	{is(errUnserved), http.StatusServiceUnavailable, messageUnready, nil},
	{is(errOverloaded), http.StatusServiceUnavailable, messageUnready, nil},
	{is(context.DeadlineExceeded), http.StatusServiceUnavailable, messageUnready, nil},
	{is(context.Canceled), http.StatusServiceUnavailable, messageUnready, nil},
	{isNetwork, http.StatusServiceUnavailable, messageUnready, nil},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// isNetwork reports an error on the way to the database.
func isNetwork(err error) bool {
	var n net.Error
	return errors.As(err, &n)
}

// failureOf turns any error of a handler into an answer.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	for _, row := range faultTable {
		if row.matches(err) {
			return &failure{status: row.status, message: row.message, body: row.body, cause: err}
		}
	}
	return &failure{status: http.StatusInternalServerError, message: messageInternal, cause: err}
}

// authFailures is the one place that says what the caller is told when the key
// does not open the API. Unknown, expired and revoked keys read the same, so
// that the answer does not tell which keys ever existed.
var authFailures = map[policy.Reason]struct {
	status  int
	message string
}{
	policy.ReasonMissingCredential:      {http.StatusUnauthorized, "No Authorization header. Send Authorization: Bearer <client key>."},
	policy.ReasonInvalidToken:           {http.StatusUnauthorized, "Malformed Authorization header. Send Authorization: Bearer <client key>."},
	policy.ReasonConflictingCredentials: {http.StatusUnauthorized, "More than one Authorization header."},
	policy.ReasonBadKey:                 {http.StatusUnauthorized, "The client key is not valid."},
	policy.ReasonExpired:                {http.StatusUnauthorized, "The client key is not valid."},
	policy.ReasonRevoked:                {http.StatusUnauthorized, "The client key is not valid."},
}

// authFailure is the answer to a request whose key was refused for reason, or
// could not be looked up.
func authFailure(reason policy.Reason) *failure {
	if row, ok := authFailures[reason]; ok {
		return &failure{status: row.status, message: row.message, reason: reason}
	}
	if reason.Effect() == policy.Fault {
		return unready(reason)
	}
	return &failure{status: http.StatusInternalServerError, message: messageInternal, cause: errors.New("unexpected reason " + reason.String())}
}

// unready is the answer when the cache cannot decide: no snapshot yet, no word
// from the store for too long, or the store away on a miss.
func unready(reason policy.Reason) *failure {
	return &failure{status: http.StatusServiceUnavailable, message: messageUnready, cause: errors.New(reason.String())}
}

func methodNotAllowed(allow []string) *failure {
	return &failure{
		status:  http.StatusMethodNotAllowed,
		message: "Method not allowed. Allowed: " + strings.Join(allow, ", ") + ".",
		allow:   allow,
	}
}
