package admin

import (
	"errors"
	"io"
	"net/http"

	"portcullis/internal/identity"
)

// Messages of a body that cannot be read.
const (
	messageBody       = "Invalid body. Must be a JSON object, each key once."
	messageBodyTooBig = "The body is larger than 1 MiB."
)

// members are the keys of a body's JSON object; keys that a route does not know
// are ignored. The content type does not matter.
type members map[string][]byte

// object reads the body as one JSON object. No body at all is an empty object
// where optional, else a 400, as are null and every other value.
func (c *call) object(optional bool) (members, error) {
	text, err := io.ReadAll(io.LimitReader(c.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(text) > maxBody:
		return nil, &failure{status: http.StatusRequestEntityTooLarge, message: messageBodyTooBig}
	case len(text) == 0 && optional:
		return members{}, nil
	}
	object, err := identity.ReadObject(text)
	if err != nil {
		return nil, badRequest(messageBody)
	}
	return object, nil
}

// unreadable is a body that ended early, or in no valid framing: the caller's
// doing, whatever the error.
func unreadable(err error) *failure {
	f := badRequest("The body could not be read to its end.")
	f.cause = errors.Join(errors.New("read the body"), err)
	return f
}

// apiKey reads the member api_key; the message never repeats it, since it may be
// a secret with a slip in it.
func (m members) apiKey() (string, error) {
	if text, ok := identity.ReadString(m["api_key"]); ok && identity.IsUserKey([]byte(text)) {
		return text, nil
	}
	return "", badRequest("api_key must be a string matching rak_[0-9A-Za-z]{43}")
}

// label reads the member label: "" where it is absent or null.
func (m members) label() (string, error) {
	value, given := m["label"]
	if !given || string(value) == "null" {
		return "", nil
	}
	if text, ok := identity.ReadString(value); ok && ruleLabel.admits(text) {
		return text, nil
	}
	return "", badRequest(messageLabel)
}

// permission reads the member permission. What is no string is shown as it was
// sent, and what is absent as null.
func (m members) permission() (string, error) {
	value, given := m["permission"]
	text, ok := identity.ReadString(value)
	switch {
	case ok && rulePermission.admits(text):
		return text, nil
	case ok:
		return "", badRequest(rulePermission.check(text))
	case !given:
		value = []byte("null")
	}
	return "", badRequest("Invalid " + rulePermission.what + ": " + echo(string(value)))
}

// boolean reads a member that must be true or false.
func (m members) boolean(name string) (bool, error) {
	switch string(m[name]) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, badRequest(name + " must be a boolean")
}
