package admin

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"portcullis/internal/store"
	"portcullis/policy"
)

// The bounds of an entry's fields.
const (
	maxIssuer    = 1024 // bytes
	maxTokenID   = 256  // bytes, as the gate admits
	defaultDeny  = MaxAccessTokenLifetime + tokenSkew
	longestDeny  = 366 * 24 * time.Hour
	denyAheadMax = tokenSkew // a mark in the future would refuse tokens not yet issued
)

// denyBody is the body of every POST under /api/deny; each route takes its own
// members of it and no others.
type denyBody struct {
	Issuer  *string    // absent: our own
	Token   *string    // token
	Kind    *string    // subject; absent: user
	ID      *string    // subject
	Before  *time.Time // subject; absent: now
	Key     *string    // key
	Expires *int64     // seconds; absent: a day and the skew, and the most for outside issuers
}

// denyToken denies one access token, by issuer and jti.
func (a *API) denyToken(c *call) (reply, error) {
	b, err := readDenyBody(c)
	if err != nil {
		return reply{}, err
	}
	if b.Token == nil || !short(*b.Token, maxTokenID) || b.Kind != nil || b.ID != nil || b.Before != nil || b.Key != nil {
		return reply{}, badRequest("Invalid body. Must hold jti, and may hold issuer and expires_in.")
	}
	return a.deny(c, b, store.NewDenial{Kind: store.DenyToken, Value: *b.Token})
}

// denySubject denies every token of a principal that was issued until a moment.
func (a *API) denySubject(c *call) (reply, error) {
	b, err := readDenyBody(c)
	if err != nil {
		return reply{}, err
	}
	kind := policy.KindUser
	known := true
	if b.Kind != nil {
		kind, known = policy.ParseKind(*b.Kind)
	}
	if b.ID == nil || !validUser(*b.ID) || !known || b.Token != nil || b.Key != nil {
		return reply{}, badRequest("Invalid body. Must hold id, and may hold kind (user, client, workload), issuer, before and expires_in.")
	}
	before := c.now
	if b.Before != nil {
		before = *b.Before
	}
	if before.After(c.now.Add(denyAheadMax)) || before.Unix() < 0 {
		return reply{}, badRequest("Invalid before. Must be a time of RFC 3339 that has passed.")
	}
	if kind != policy.KindUser {
		if b.Issuer != nil && *b.Issuer != "" && *b.Issuer != a.cfg.Tokens.Name {
			return reply{}, badRequest("Invalid issuer. Tokens of clients and workloads are our own alone: leave it out.")
		}
		none := ""
		b.Issuer = &none
	}
	return a.deny(c, b, store.NewDenial{Kind: store.DenySubject, Value: *b.ID, Principal: kind, Before: before})
}

// denyKey denies every token that a key of an issuer signed, in every tenant.
func (a *API) denyKey(c *call) (reply, error) {
	b, err := readDenyBody(c)
	if err != nil {
		return reply{}, err
	}
	if b.Key == nil || !short(*b.Key, maxTokenID) || b.Kind != nil || b.ID != nil || b.Before != nil || b.Token != nil {
		return reply{}, badRequest("Invalid body. Must hold kid, and may hold issuer and expires_in.")
	}
	return a.deny(c, b, store.NewDenial{Kind: store.DenyKey, Value: *b.Key})
}

// deny adds an entry for the tenant that the path names, the caller's own where it
// names none.
func (a *API) deny(c *call, b denyBody, denial store.NewDenial) (reply, error) {
	denial.Issuer = a.cfg.Tokens.Name
	if b.Issuer != nil {
		denial.Issuer = *b.Issuer
	}
	if denial.Issuer != "" && !short(denial.Issuer, maxIssuer) {
		return reply{}, badRequest("Invalid issuer.")
	}
	life := defaultDeny
	if denial.Issuer != a.cfg.Tokens.Name && denial.Issuer != "" {
		life = longestDeny // the policy may admit tokens of others for that long
	}
	if b.Expires != nil {
		life = time.Duration(*b.Expires) * time.Second
		if *b.Expires < 1 || *b.Expires > int64(longestDeny/time.Second) {
			return reply{}, badRequest("Invalid expires_in. Must be seconds, from 1 to 31622400.")
		}
	}
	denial.Expires = c.now.Add(life)
	if denial.Kind != store.DenyKey {
		var err error
		if denial.Tenant, err = a.denyTenant(c); err != nil {
			return reply{}, err
		}
	}
	var entry store.Denial
	_, err := a.commit(c, func(ctx context.Context, by store.Actor) (result store.Result, err error) {
		entry, result, err = a.cfg.Store.Deny(ctx, by, denial)
		return result, err
	})
	return reply{value: denialRowOf(&entry), message: "Denied"}, err
}

// denyTenant is the tenant whose list the path is about.
func (a *API) denyTenant(c *call) (store.TenantID, error) {
	if len(c.route.names) == 0 || c.route.names[0].what != ruleTenant.what {
		return c.key.Tenant, nil
	}
	tenant, err := a.cfg.Store.TenantByName(c.Context(), c.values[0])
	return tenant.ID, err
}

func (a *API) allow(c *call) (reply, error) {
	tenant, err := a.denyTenant(c)
	if err != nil {
		return reply{}, err
	}
	return a.allowIn(c, tenant)
}

func (a *API) allowKey(c *call) (reply, error) { return a.allowIn(c, 0) }

// allowIn takes an entry of the tenant away. Another tenant's is 404, as is none.
func (a *API) allowIn(c *call, tenant store.TenantID) (reply, error) {
	text := c.values[len(c.values)-1]
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return reply{}, badRequest("Invalid entry: " + echo(text) + ". Must be its number.")
	}
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		return a.cfg.Store.Allow(ctx, by, tenant, id)
	})
	return reply{value: map[string]bool{"removed": true}, message: "Allowed again"}, err
}

type denialPage struct {
	Entries []denialRow `json:"entries"`
	Next    *int64      `json:"next"` // the `after` of the next page; null at the end
}

type denialRow struct {
	ID      int64   `json:"id"`
	Type    string  `json:"type"` // token, subject, key
	Issuer  string  `json:"issuer"`
	Value   string  `json:"value"`          // jti, kid, or the principal's id
	Kind    string  `json:"kind,omitempty"` // of a subject
	Before  *string `json:"before,omitempty"`
	Created string  `json:"created"`
	Expires string  `json:"expires_at"`
}

func denialRowOf(d *store.Denial) denialRow {
	row := denialRow{
		ID: d.ID, Type: d.Kind.String(), Issuer: d.Issuer, Value: d.Value, Kind: d.Principal.String(),
		Created: timestamp(d.Created), Expires: timestamp(d.Expires),
	}
	if !d.Before.IsZero() {
		row.Before = orNull(timestamp(d.Before))
	}
	return row
}

func (a *API) listDenials(c *call) (reply, error) {
	tenant, err := a.denyTenant(c)
	if err != nil {
		return reply{}, err
	}
	return a.listDenialsOf(c, tenant)
}

func (a *API) listDeniedKeys(c *call) (reply, error) { return a.listDenialsOf(c, 0) }

func (a *API) listDenialsOf(c *call, tenant store.TenantID) (reply, error) {
	q, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return reply{}, badRequest("Invalid query string.")
	}
	limit, err := intValue(q, "limit", defaultLimit, 1, maxLimit)
	if err != nil {
		return reply{}, err
	}
	after, err := intValue(q, "after", 0, 0, 1<<62)
	if err != nil {
		return reply{}, err
	}
	entries, err := a.cfg.Store.DenialList(c.Context(), tenant, int64(after), limit)
	if err != nil {
		return reply{}, err
	}
	page := denialPage{Entries: make([]denialRow, 0, len(entries))}
	for i := range entries {
		page.Entries = append(page.Entries, denialRowOf(&entries[i]))
	}
	if len(entries) == limit {
		page.Next = &entries[limit-1].ID
	}
	if a.cfg.AuditChecks {
		err = a.record(c, store.AuditEntry{Resource: "denial", Outcome: store.OutcomeDone.String(), Success: true, Revision: a.cfg.Cache.Applied()})
	}
	return reply{value: page, message: "Retrieved " + strconv.Itoa(len(entries)) + " entries"}, err
}

// readDenyBody reads one JSON object, with no members that nothing here knows: a
// misspelt one would deny something else than was meant, and so would one that two
// readers see differently.
func readDenyBody(c *call) (b denyBody, err error) {
	object, err := c.object(false)
	if err != nil {
		return b, err
	}
	fields := map[string]any{
		"issuer": &b.Issuer, "jti": &b.Token, "kind": &b.Kind, "id": &b.ID, "before": &b.Before, "kid": &b.Key, "expires_in": &b.Expires,
	}
	for name, value := range object {
		field, known := fields[name]
		if !known {
			return b, badRequest("Invalid body: the member " + echo(name) + " is not one that docs/tokens.md names.")
		}
		if err := json.Unmarshal(value, field); err != nil {
			return b, badRequest("Invalid " + name + ". It is of another type than docs/tokens.md says.")
		}
	}
	return b, nil
}

// short admits what a token may carry there, without what databases refuse.
func short(s string, most int) bool {
	return s != "" && len(s) <= most && printable(s)
}
