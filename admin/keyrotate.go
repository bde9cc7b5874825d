package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

const (
	replayFor     = 10 * time.Minute     // how long a retry gets the same secret
	maxOverlap    = 30 * 24 * time.Hour  // of two secrets
	maxIdempotent = 255                  // bytes of an Idempotency-Key
	mostReplays   = 600                  // look-ups a minute for keys that open nothing
	countFor      = 2 * time.Second      // counting must not hold a rotation up
	rotated       = "Client key rotated" // message of the 200
	rotatedBefore = "This rotation was made before, and its reply is kept no longer."
)

// rotation is the reply of a rotation, as it is sealed for a retry.
type rotation struct {
	Client string   `json:"client"`
	NewKey string   `json:"new_key"`
	Counts migrated `json:"migrated"`
}

// migrated counts what goes on under the new key. Nothing moves: the tenant has an
// identity of its own.
type migrated struct {
	Roles       int `json:"roles"`
	Memberships int `json:"memberships"`
	Permissions int `json:"permissions"`
	APIKeys     int `json:"api_keys"`
	Settings    int `json:"settings"`
}

type rotationData struct {
	NewKey string   `json:"new_key"`
	Counts migrated `json:"migrated"`
}

func (r rotation) reply() reply {
	return reply{value: rotationData{r.NewKey, r.Counts}, message: rotated}
}

// rotateKey is POST /api/keys/rotate: a new secret for the client that asks. A retry
// with the same Idempotency-Key, or none at all, gets the same secret.
func (a *API) rotateKey(c *call) (reply, error) {
	if slices.Contains(c.key.Scopes, store.ScopeOperator) {
		return reply{}, &failure{status: http.StatusForbidden,
			message: "A key with the scope operator is made on the host alone: `portcullis key new`."}
	}
	overlap, err := parseOverlap(c.URL.RawQuery)
	if err != nil {
		return reply{}, err
	}
	use, err := idempotencyKey(c)
	if err != nil {
		return reply{}, err
	}
	if former, _, err := a.replay(c, use); err != errNoReplay {
		return former.reply(), err
	}
	next := identity.NewClientKey()
	made := rotation{Client: c.key.Name, NewKey: string(next[:]), Counts: a.countTenant(c)}
	text, err := json.Marshal(made)
	if err != nil {
		return reply{}, err
	}
	sealed, err := a.cfg.SealReply(string(c.secret[:]), use, string(text))
	if err != nil {
		return reply{}, err
	}
	_, err = a.commit(c, func(ctx context.Context, by store.Actor) (store.Result, error) {
		_, result, err := a.cfg.Store.RotateKey(ctx, by, store.KeyRotation{
			Tenant: c.key.Tenant, Name: c.key.Name, Presented: identity.KeyDigest(c.secret),
			New: store.NewKey{
				Tenant: c.key.Tenant, Name: c.key.Name, Digest: identity.KeyDigest(next), Prefix: string(next[:8]),
				Scopes: c.key.Scopes, Expires: again(c.now, c.key.Created, c.key.Expires), RotateAt: again(c.now, c.key.Created, c.key.RotateAt),
			},
			Overlap: overlap, ReplayID: replayID(c.secret, use), Reply: sealed, ReplayUntil: c.now.Add(replayFor),
		})
		return result, err
	})
	switch {
	case err == nil:
		return made.reply(), nil
	case errors.Is(err, store.ErrExists), errors.Is(err, store.ErrNotFound):
		// The same request came at the same time, and was first; or another rotation
		// was, and this key opens nothing any more.
		former, _, replayErr := a.replay(c, use)
		if replayErr == errNoReplay {
			return reply{}, authFailure(policy.ReasonBadKey)
		}
		return former.reply(), replayErr
	}
	return reply{}, err
}

// again is the end of a new key that lives as long as the former one was to live;
// zero for one without an end.
func again(now, created, end time.Time) time.Time {
	if end.IsZero() {
		return end
	}
	return now.Add(end.Sub(created))
}

// retired answers a request whose key opens nothing. Only a key that was rotated a
// moment ago gets anything: the reply that its rotation had, at this one route.
func (a *API) retired(c *call, res *resource, refused error) (reply, error) {
	f := failureOf(refused)
	if res == nil || res.pattern != pathRotate || c.Method != http.MethodPost || f.status != http.StatusUnauthorized || c.secret == (clientSecret{}) {
		return reply{}, refused
	}
	use, err := idempotencyKey(c)
	if err != nil {
		return reply{}, refused
	}
	if !a.replays.take(c.began.Mono) {
		return reply{}, refused
	}
	ctx, cancel := context.WithTimeout(c.Context(), a.cfg.StoreTimeout)
	defer cancel()
	c.Request = c.Request.WithContext(ctx)
	former, tenant, err := a.replay(c, use)
	if err == errNoReplay {
		return reply{}, refused
	}
	if err != nil {
		return reply{}, err
	}
	c.route = res.routes[http.MethodPost]
	by := store.AuditEntry{
		Time: c.now, Tenant: tenant, Actor: policy.KindClient.String() + ":" + former.Client, Action: store.ActionRotateKey,
		Resource: store.ClientKeyResource(former.Client), Details: `{"replay":true}`,
		Outcome: store.OutcomeUnchanged.String(), Success: true,
		Address: c.client.String(), UserAgent: userAgent(c.Header), RequestID: c.id, Revision: a.cfg.Cache.Applied(),
	}
	if err := a.cfg.Store.RecordAudit(ctx, []store.AuditEntry{by}); err != nil {
		return reply{}, err
	}
	a.metrics.audited(store.ActionRotateKey)
	return former.reply(), nil
}

// errNoReplay: no rotation had this key and this Idempotency-Key.
var errNoReplay = errors.New("no such rotation")

// replay returns the reply that the rotation of this key and use had. One that is
// past its time is a 409.
func (a *API) replay(c *call, use string) (rotation, store.TenantID, error) {
	tenant, sealed, err := a.cfg.Store.Replay(c.Context(), replayID(c.secret, use))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return rotation{}, 0, errNoReplay
	case errors.Is(err, store.ErrExpired):
		return rotation{}, 0, &failure{status: http.StatusConflict, message: rotatedBefore, cause: err}
	case err != nil:
		return rotation{}, 0, err
	}
	text, err := a.cfg.OpenReply(string(c.secret[:]), use, sealed)
	if err != nil {
		return rotation{}, 0, err
	}
	var r rotation
	err = json.Unmarshal([]byte(text), &r)
	return r, tenant, err
}

// replayID names a rotation's reply. Who does not hold the key cannot tell it.
func replayID(secret clientSecret, use string) store.Digest {
	return sha256.Sum256(append(append([]byte("portcullis replay v1\x00"), secret[:]...), use...))
}

// idempotencyKey is the request's, or the digest of the key where it has none.
func idempotencyKey(c *call) (string, error) {
	values := c.Header["Idempotency-Key"]
	switch {
	case len(values) == 0:
		return "digest " + store.Digest(identity.KeyDigest(c.secret)).String(), nil
	case len(values) > 1 || values[0] == "" || len(values[0]) > maxIdempotent || !printable(values[0]):
		return "", badRequest("Invalid Idempotency-Key. Must be one value of 1-255 printable ASCII characters.")
	}
	return "header " + values[0], nil
}

func parseOverlap(query string) (time.Duration, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return 0, badRequest("Invalid query string.")
	}
	text, given, err := oneValue(q, "overlap")
	if err != nil || !given {
		return 0, err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxOverlap {
		return 0, badRequest("Invalid overlap: " + echo(text) + ". Must be a duration from 0s to 720h, such as 1h.")
	}
	return d, nil
}

// countTenant counts what the tenant holds. It is for people: where the store takes
// too long, it counts what it got.
func (a *API) countTenant(c *call) (n migrated) {
	ctx, cancel := context.WithTimeout(c.Context(), countFor)
	defer cancel()
	if s := a.cfg.Cache.Snapshot(); s != nil {
		if t, ok := s.TenantByID(c.key.Tenant); ok && t.StrictUsers {
			n.Settings = 1
		}
	}
	roles, err := a.cfg.Store.RoleList(ctx, c.key.Tenant)
	if err != nil {
		return n
	}
	n.Roles = len(roles)
	users := map[string]bool{}
	for _, r := range roles {
		permissions, err := a.cfg.Store.PermissionList(ctx, c.key.Tenant, r.Name)
		if err != nil {
			return n
		}
		n.Permissions += len(permissions)
		members, err := a.cfg.Store.MemberList(ctx, c.key.Tenant, r.Name)
		if err != nil {
			return n
		}
		n.Memberships += len(members)
		for _, m := range members {
			if m.Kind == policy.KindUser {
				users[m.ID] = true
			}
		}
	}
	for user := range users {
		keys, err := a.cfg.Store.UserKeyList(ctx, c.key.Tenant, user)
		if err != nil {
			return n
		}
		n.APIKeys += len(keys)
	}
	return n
}
