package main

import (
	"context"
	"time"

	"portcullis/internal/identity"
	"portcullis/policy"
)

// scene is one request and what must come of it.
type scene struct {
	what    string
	method  string // default GET
	path    string
	headers [][2]string
	before  func(context.Context) error
	grpc    bool

	status  int    // HTTP status; with grpc the grpc-status
	reason  string // of a denial; "" for an allow; byEnvoy where Envoy refuses by itself
	subject string // who the upstream must believe is calling; "" nobody

	// Without Envoy in front, what the gate itself says of the raw request.
	rawStatus int
	rawReason string
}

const byEnvoy = "refused by Envoy itself"

func (b *blog) scenes() []scene {
	bearer := func(token string) [2]string { return [2]string{"authorization", "Bearer " + token} }
	with := func(h ...[2]string) [][2]string { return h }
	return []scene{
		{what: "a public page", path: "/posts/1", status: 200},
		{what: "no token", path: "/me", status: 401, reason: "missing_credential"},
		{what: "an expired token", path: "/me", headers: with(bearer(b.old)), status: 401, reason: "expired"},
		{what: "a forged token", path: "/me", headers: with(bearer(b.bob[:len(b.bob)-4] + "AAAA")), status: 401, reason: "invalid_token"},
		{what: "a viewer edits", method: "PUT", path: "/posts/1", headers: with(bearer(b.bob)), status: 403, reason: "missing_permission"},
		{what: "an editor edits", method: "PUT", path: "/posts/1", headers: with(bearer(b.amy)), status: 200, subject: "amy"},
		{what: "a client key deploys", method: "POST", path: "/deploy", headers: with([2]string{"x-client-key", b.ci}), status: 200, subject: "ci"},
		{what: "a client key nobody made", method: "POST", path: "/deploy", headers: with([2]string{"x-client-key", "3d1f8a52-7c4e-4b8e-9f60-2a5d7c9e1b34"}), status: 401, reason: "bad_key"},
		{what: "a viewer says x-auth-subject: root", path: "/me", headers: with(bearer(b.bob), [2]string{"x-auth-subject", "root"}), status: 200, subject: "bob"},
		{what: "two tokens at once", path: "/me", headers: with(bearer(b.bob), bearer(b.amy)), status: 401, reason: "conflicting_credentials"},
		{what: "a slash too many", path: "//admin", headers: with(bearer(b.bob)), status: 403, reason: "missing_permission", rawStatus: 403, rawReason: "no_rule"},
		{what: "an encoded slash", path: "/posts%2f..%2fadmin", headers: with(bearer(b.bob)), status: 400, reason: byEnvoy, rawStatus: 400, rawReason: "ambiguous_request"},
		{what: "a path no rule mentions", path: "/secrets", headers: with(bearer(b.amy)), status: 403, reason: "no_rule"},
		{what: "another tenant's editor", method: "PUT", path: "/posts/1", headers: with(bearer(b.zed)), status: 403, reason: "wrong_tenant"},
		{what: "a gRPC call by a viewer", method: "POST", path: "/blog.Posts/Read", headers: with(bearer(b.bob)), grpc: true, status: 0, subject: "bob"},
		{what: "a gRPC edit by a viewer", method: "POST", path: "/blog.Posts/Edit", headers: with(bearer(b.bob)), grpc: true, status: 7, reason: "missing_permission", rawStatus: 403, rawReason: "missing_permission"},
		{what: "the editor, revoked a moment ago", method: "PUT", path: "/posts/1", headers: with(bearer(b.amy)), status: 403, reason: "missing_permission",
			before: func(ctx context.Context) error {
				_, err := b.cli(ctx, "member", "remove", "amy", "editor", "--wait")
				return err
			}},
	}
}

// expiredToken makes a token of half an hour ago that lived for a quarter.
func expiredToken(subject string) (string, error) {
	issuer, err := identity.NewIssuer(identity.IssuerConfig{
		Secret: []byte(tokenSecret),
		Now:    func() time.Time { return time.Now().Add(-30 * time.Minute) },
	})
	if err != nil {
		return "", err
	}
	return issuer.Issue(policy.Principal{Tenant: "default", Kind: policy.KindUser, ID: subject}, 15*time.Minute)
}
