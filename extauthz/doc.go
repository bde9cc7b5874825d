// Package extauthz owns the conversation with Envoy: the ext_authz v3 server.
//
// Core is the gate itself, a function from request bytes to response bytes: parse,
// find the rule, authenticate, decide, respond. It knows no transport. Server
// carries it over gRPC.
//
// Nothing here touches a database: what a check needs comes from cache.
package extauthz
