package sealing

import (
	"crypto/hkdf"
	"crypto/sha256"

	"github.com/fernet/fernet-go"
)

// replyPlace is where a sealed reply lies. Its row has no id before it is sealed:
// the key is the row's own.
var replyPlace = Place{Table: "replays", Column: "reply"}

// replyKey is HKDF-SHA256 of the secret that the caller presented and of the name
// that it gave its request. Nobody else can compute it, the store's owner included.
func replyKey(presented, use string) (*fernet.Key, error) {
	raw, err := hkdf.Key(sha256.New, []byte(presented), nil, "portcullis reply v1\x00"+use, 32)
	if err != nil {
		return nil, err
	}
	key := fernet.Key(raw)
	return &key, nil
}

// SealReply seals a reply so that only who presents the same secret for the same
// use opens it. The secret must be random, 122 bits or more.
func SealReply(presented, use, text string) (string, error) {
	key, err := replyKey(presented, use)
	if err != nil {
		return "", err
	}
	return seal(key, replyPlace, text)
}

// OpenReply opens what SealReply sealed. The error is an *Error, and holds neither
// secret nor reply.
func OpenReply(presented, use, sealed string) (string, error) {
	key, err := replyKey(presented, use)
	if err != nil {
		return "", err
	}
	text, why := open(key, replyPlace, sealed)
	if why != "" {
		return "", &Error{Place: replyPlace, Why: why}
	}
	return text, nil
}
