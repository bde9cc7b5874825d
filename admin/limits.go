package admin

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"portcullis/cache"
	"portcullis/internal/clientaddr"
	"portcullis/internal/ratelimit"
	"portcullis/internal/store"
	"portcullis/policy"
)

// Limits are how often callers may ask. A zero rate is no limit. Permission checks
// with a valid key have none.
type Limits struct {
	// Reads and Writes are of each client: its keys of one name share them.
	Reads, Writes ratelimit.Rate
	// Failures are failed authentications of each address (IPv6: of each /64). Past
	// them a request without a valid key is refused before it costs the store
	// anything. One with a valid key is served whatever its address did.
	Failures ratelimit.Rate
	// Unauthenticated is of each address: requests to public routes and those without
	// a valid key.
	Unauthenticated ratelimit.Rate
}

// The limits as metrics and headers name them.
const (
	limitReads           = "reads"
	limitWrites          = "writes"
	limitFailures        = "failures"
	limitUnauthenticated = "unauthenticated"
)

// limits hold the buckets. They are safe for concurrent use.
type limits struct {
	reads, writes             quota[clientID]
	failures, unauthenticated quota[netip.Prefix]
}

// clientID is what a key's requests count under: another secret of the name must not
// be another allowance.
type clientID struct {
	tenant store.TenantID
	name   string
}

// quota is a limiter and how answers speak of it.
type quota[K comparable] struct {
	*ratelimit.Limiter[K]
	name   string
	policy string // of the header RateLimit-Policy
}

func newQuota[K comparable](name string, rate ratelimit.Rate) quota[K] {
	return quota[K]{
		Limiter: ratelimit.New[K](rate, 0), name: name,
		policy: `"` + name + `";q=` + strconv.Itoa(rate.Count) + ";w=" + strconv.Itoa(int(rate.Period/time.Second)),
	}
}

func newLimits(l Limits) *limits {
	return &limits{
		reads: newQuota[clientID](limitReads, l.Reads), writes: newQuota[clientID](limitWrites, l.Writes),
		failures:        newQuota[netip.Prefix](limitFailures, l.Failures),
		unauthenticated: newQuota[netip.Prefix](limitUnauthenticated, l.Unauthenticated),
	}
}

// tell sets the headers that say where the caller stands.
func (q quota[K]) tell(h http.Header, s ratelimit.State) {
	if !q.Rate().Limits() {
		return
	}
	left, reset := strconv.Itoa(s.Remaining), strconv.FormatInt(wholeSeconds(s.Reset), 10)
	h.Set("RateLimit-Limit", strconv.Itoa(q.Rate().Count))
	h.Set("RateLimit-Remaining", left)
	h.Set("RateLimit-Reset", reset)
	h.Set("RateLimit-Policy", q.policy)
	h.Set("RateLimit", `"`+q.name+`";r=`+left+";t="+reset)
}

// refuse is the 429, with its headers.
func (q quota[K]) refuse(c *call, s ratelimit.State) *failure {
	q.tell(c.out, s)
	c.out.Set("Retry-After", strconv.FormatInt(max(1, wholeSeconds(s.Wait)), 10))
	return &failure{status: http.StatusTooManyRequests, limit: q.name, message: "Too many requests. Try again when Retry-After has passed."}
}

// wholeSeconds rounds up: who waits so long has waited long enough.
func wholeSeconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// limitKey counts a request of a valid key under its route's class. What is no route
// counts as a read.
func (a *API) limitKey(c *call, key *cache.Key, r *route) error {
	q := a.limits.reads
	switch {
	case r != nil && r.writes:
		q = a.limits.writes
	case r != nil && r.scope == store.ScopeCheck:
		return nil
	}
	s := q.Take(clientID{key.Tenant, key.Name}, c.began.Mono)
	if !s.OK {
		return q.refuse(c, s)
	}
	q.tell(c.out, s)
	return nil
}

// limitPublic counts a request that needs no key.
func (a *API) limitPublic(c *call) error {
	network := clientaddr.Network(c.client.Addr)
	if !network.IsValid() {
		return nil
	}
	if s := a.limits.unauthenticated.Take(network, c.began.Mono); !s.OK {
		return a.limits.unauthenticated.refuse(c, s)
	}
	return nil
}

// limitStranger counts a request that was refused for want of a valid credential,
// and returns what it is answered: refused, or 429 once its address has used up what
// it has. Either tells the same of the credential. A fault of this process counts for
// nothing. Where the connection has no address, as on a unix socket, all callers
// would be one, so nobody is limited.
func (a *API) limitStranger(c *call, refused error) error {
	f := failureOf(refused)
	network := clientaddr.Network(c.client.Addr)
	if f.status >= http.StatusInternalServerError || !network.IsValid() {
		return refused
	}
	now := c.began.Mono
	all := a.limits.unauthenticated.Take(network, now)
	failed := ratelimit.State{OK: true}
	if f.reason != policy.ReasonInternal {
		failed = a.limits.failures.Take(network, now)
	}
	var limited *failure
	switch {
	case !failed.OK:
		failed.Wait = max(failed.Wait, all.Wait)
		limited = a.limits.failures.refuse(c, failed)
	case !all.OK:
		limited = a.limits.unauthenticated.refuse(c, all)
	default:
		return refused
	}
	limited.reason = f.reason
	return limited
}

// forgive takes back what limitStranger counted and let pass: the credential was good
// for something after all.
func (a *API) forgive(c *call) {
	if network := clientaddr.Network(c.client.Addr); network.IsValid() {
		a.limits.unauthenticated.GiveBack(network)
		a.limits.failures.GiveBack(network)
	}
}

// noteFailure counts a failed authentication for the metrics and the audit, whether
// it was answered 401 or 429. A grant that a valid client failed with counts against
// its address too, so that guesses at refresh tokens are failures like others; the
// client itself goes on.
func (a *API) noteFailure(c *call, f *failure) {
	network := clientaddr.Network(c.client.Addr)
	switch {
	case f.reason != policy.ReasonInternal:
		a.metrics.authFailure(f.reason)
		a.failed.note(network, f.reason.String())
	case f.badGrant:
		if network.IsValid() {
			a.limits.failures.Take(network, c.began.Mono)
		}
		a.failed.note(network, oauthInvalidGrant)
	}
}
