package cache

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/policy"
)

// TestModel drives a cache and the naive model with random writes, checks, feed
// delays, lagging and stopped loads, joiners, lost and reordered cache writes,
// restarts, restored backups, clock steps, changes of the encryption keys, denials
// of tokens and changes of the signing keys, and holds the one law: once the
// cache has published a revision as applied, no check allows what that revision
// forbids, and every verdict is true at one revision.
func TestModel(t *testing.T) {
	tally := &tally{}
	rapid.Check(t, func(rt *rapid.T) {
		rapid.SyncTest(rt, func(rt *rapid.T) {
			m := newMachine(rt, tally)
			defer m.end()
			rt.Repeat(m.actions())
		})
	})
	t.Logf("%+v", *tally)
	// A model that never allows, never reloads and never joins proves nothing.
	if tally.Allowed == 0 || tally.Denied == 0 || tally.Faults == 0 || tally.Hits == 0 || tally.Late == 0 || tally.Restored == 0 || tally.Gone == 0 ||
		tally.ByToken == 0 || tally.Revoked == 0 || tally.Swept == 0 {
		t.Errorf("the run was too tame to prove the law: %+v", *tally)
	}
}

// TestModelCatchesPlants builds the package with each planted fault and sees the
// model find it.
func TestModelCatchesPlants(t *testing.T) {
	for _, plant := range []string{"plant_stamp", "plant_joiners", "plant_slots", "plant_key", "plant_denial"} {
		t.Run(plant, func(t *testing.T) {
			out, err := exec.Command("go", "test", "-tags", plant, "-run", "^TestModel$", "-count=1", "-rapid.checks=20000", "-rapid.shrinktime=1s", "-rapid.nofailfile", ".").CombinedOutput()
			if err == nil {
				t.Fatalf("the model passed with %s built in:\n%s", plant, out)
			}
			if !strings.Contains(string(out), "the law is broken") {
				t.Fatalf("the model failed for another reason:\n%s", out)
			}
		})
	}
}

// tally counts what the runs went through.
type tally struct {
	Allowed, Denied, Faults, Late, Hits, Restored, Restarts, Loads, Gone int

	ByToken, Revoked, Swept int // allowed by a token, refused as revoked, marks swept
}

type machine struct {
	rt    *rapid.T
	world *world
	cache *Cache
	chaos uint64 // seeds the caches
	tally *tally

	ring *keyring // what verifies tokens
	jwts []token  // that were used, to be used again

	holders map[holding]*Holder // of the users that are asked about by name, as tokens keep them

	wall    atomic.Int64 // how far the wall clock was set off
	asleep  atomic.Int64 // how long the machine was suspended: monotonic time stood still
	pending []*pendingCheck
}

// pendingCheck is a check that runs, or ran.
type pendingCheck struct {
	q      question
	from   int // index in the world's log of what was applied when it began, or of an older snapshot that it took
	at     int64
	done   atomic.Bool // reason and at are set
	reason policy.Reason
}

// holding names a user of a tenant.
type holding struct {
	tenant store.TenantID
	user   string
}

// question is what a check asks: a user by name or by API key, or a client by key.
type question struct {
	tenant     store.TenantID
	user       string
	key        *store.Digest
	userKey    *store.Digest
	jwt        *token
	permission string
}

func (q question) String() string {
	if q.key != nil {
		return fmt.Sprintf("key %x, %s", q.key[:1], q.permission)
	}
	if q.userKey != nil {
		return fmt.Sprintf("user key %x, %s", q.userKey[:1], q.permission)
	}
	if q.jwt != nil {
		return fmt.Sprintf("token %+v, %s", *q.jwt, q.permission)
	}
	return fmt.Sprintf("user %s of %d, %s", q.user, q.tenant, q.permission)
}

type noTokens struct{}

func (noTokens) Verify(string) (*identity.Token, policy.Reason) {
	return nil, policy.ReasonInvalidToken
}
func (noTokens) Current(*identity.Token) bool { return false }

func newMachine(rt *rapid.T, ta *tally) *machine {
	m := &machine{rt: rt, world: newWorld(), tally: ta}
	m.chaos = rapid.Uint64().Draw(rt, "chaos")
	m.start()
	return m
}

// start makes a new process.
func (m *machine) start() {
	if m.cache != nil {
		m.tally.Swept += m.swept()
	}
	m.holders, m.ring = make(map[holding]*Holder), newKeyring()
	m.world.mu.Lock()
	m.world.found = false
	m.world.mu.Unlock()
	base := SystemClock()
	cfg := Config{
		Store: m.world, Feed: m.world, Verifier: m.ring, Keys: m.ring, Silent: true,
		Budget: 50 * time.Millisecond, MaxLoads: 4, MaxStaleness: 10 * time.Minute, Policy: policy.Empty(),
		Clock: func() Instant {
			i := base()
			return Instant{Wall: i.Wall + m.wall.Load(), Mono: i.Mono - m.asleep.Load()}
		},
	}
	cfg.Logger = discardLogger()
	m.cache = newCache(cfg, chaosBytes[*Token]{newChaos[string, *Token](m.chaos, 1)}, newChaos[uint64, *Key](m.chaos, 2), newChaos[uint64, *UserKey](m.chaos, 4), newChaos[uint64, *grant](m.chaos, 3))
	go m.cache.hear(context.Background())
	synctest.Wait()
}

// end lets everything that still stands finish, and judges it.
func (m *machine) end() {
	m.world.mu.Lock()
	m.world.holdLoads, m.world.holdDeltas, m.world.holdIndexes, m.world.broken = 0, 0, 0, false
	m.world.mu.Unlock()
	for range 100 {
		m.world.release(0)
		synctest.Wait()
	}
	m.pass(time.Minute)
	m.tally.Loads += m.world.answered()
	m.tally.Swept += m.swept()
	m.world.mu.Lock()
	m.tally.Gone += m.world.gone
	m.world.mu.Unlock()
	m.settle()
}

func (m *machine) actions() map[string]func(*rapid.T) {
	tenant := rapid.SampledFrom([]store.TenantID{1, 1, 1, 2})
	user := rapid.SampledFrom([]string{"ann", "bob"})
	role := rapid.SampledFrom([]string{"editor", "viewer"})
	perm := rapid.SampledFrom([]string{"edit", "view"})
	digest := rapid.Custom(func(t *rapid.T) store.Digest {
		return store.Digest{rapid.Byte().Draw(t, "key") % 3, 1}
	})
	userDigest := rapid.Custom(func(t *rapid.T) store.Digest {
		return store.Digest{rapid.Byte().Draw(t, "user key") % 3, 2}
	})
	client := func(d store.Digest) string { return fmt.Sprintf("c%d", d[0]%2) }
	issuer, jti, kid := rapid.SampledFrom([]string{"", "i"}), rapid.SampledFrom([]string{"", "j0", "j1"}), rapid.SampledFrom([]string{"", "k0", "k1"})
	principal := func(t *rapid.T) (policy.Kind, string) {
		if rapid.IntRange(0, 3).Draw(t, "a client") == 0 {
			return policy.KindClient, client(digest.Draw(t, "client"))
		}
		return policy.KindUser, user.Draw(t, "user")
	}
	jwt := func(t *rapid.T) *token {
		if len(m.jwts) > 0 && rapid.IntRange(0, 2).Draw(t, "a new token") > 0 {
			k := m.jwts[rapid.IntRange(0, len(m.jwts)-1).Draw(t, "token")]
			return &k
		}
		now, second := m.cache.Now().Wall, int64(time.Second)
		k := token{tenant: tenant.Draw(t, "tenant"), issuer: issuer.Draw(t, "issuer"), jti: jti.Draw(t, "jti"), kid: kid.Draw(t, "kid"),
			expires: now + int64(10*time.Minute)}
		k.kind, k.id = principal(t)
		if rapid.IntRange(0, 4).Draw(t, "iat") > 0 {
			k.issued = (now/second - rapid.Int64Range(0, 1).Draw(t, "age")) * second
		}
		m.jwts = append(m.jwts[max(0, len(m.jwts)-4):], k)
		return &k
	}
	denial := func(t *rapid.T) denialName {
		// About a token that was used, mostly.
		k := jwt(t)
		switch rapid.IntRange(0, 5).Draw(t, "denial") {
		case 0, 1:
			if k.jti != "" {
				return denialName{kind: store.DenyToken, tenant: k.tenant, issuer: k.issuer, value: k.jti}
			}
		case 2:
			if k.kid != "" {
				return denialName{kind: store.DenyKey, issuer: k.issuer, value: k.kid}
			}
		}
		n := denialName{kind: store.DenySubject, tenant: k.tenant, issuer: k.issuer, value: k.id, principal: k.kind}
		if k.kind != policy.KindUser {
			n.issuer = ""
		}
		return n
	}
	deny := func(t *rapid.T) {
		n, now, before := denial(t), m.cache.Now().Wall, int64(0)
		if n.kind == store.DenySubject {
			before = now - int64(rapid.SampledFrom([]time.Duration{0, 0, time.Second, 2 * time.Second}).Draw(t, "before"))
		}
		m.world.deny(n, before, now+int64(rapid.SampledFrom([]time.Duration{11 * time.Minute, 11 * time.Minute, time.Minute}).Draw(t, "for")))
	}
	check := func(t *rapid.T) question {
		q := question{tenant: tenant.Draw(t, "tenant"), permission: perm.Draw(t, "permission")}
		switch rapid.IntRange(0, 8).Draw(t, "by key") {
		case 5, 6, 7, 8:
			q.jwt = jwt(t)
			q.tenant = q.jwt.tenant
		case 0:
			d := digest.Draw(t, "digest")
			q.key = &d
		case 1:
			d := userDigest.Draw(t, "digest")
			q.userKey = &d
		default:
			q.user = user.Draw(t, "user")
		}
		return q
	}
	write := func(t *rapid.T) {
		te, ro := tenant.Draw(t, "tenant"), role.Draw(t, "role")
		switch rapid.IntRange(0, 22).Draw(t, "write") {
		case 17, 18, 19:
			deny(t)
		case 20, 21:
			m.world.allow(denial(t))
		case 22:
			m.world.setSigning(kid.Draw(t, "kid"), rapid.IntRange(0, 2).Draw(t, "has") > 0)
		case 0:
			m.world.deleteRole(te, ro)
		case 1, 2:
			m.world.addRole(te, ro)
		case 3, 4:
			m.world.setPermission(te, ro, perm.Draw(t, "permission"), rapid.Bool().Draw(t, "has"))
		case 5, 6:
			expires := int64(0)
			if rapid.IntRange(0, 3).Draw(t, "expires") == 0 {
				expires = m.cache.Now().Wall + int64(time.Minute)
			}
			m.world.setMember(te, policy.KindUser, user.Draw(t, "user"), ro, rapid.Bool().Draw(t, "member"), expires, rapid.IntRange(0, 4).Draw(t, "wide") == 0)
		case 7:
			d := digest.Draw(t, "digest")
			m.world.newKey(1, client(d), d)
		case 8:
			m.world.revokeKeys(1, client(digest.Draw(t, "digest")))
		case 9:
			m.world.setMember(1, policy.KindClient, client(digest.Draw(t, "digest")), ro, rapid.Bool().Draw(t, "member"), 0, false)
		case 10, 11:
			var expires time.Time
			if rapid.IntRange(0, 3).Draw(t, "expires") == 0 {
				expires = time.Unix(0, m.cache.Now().Wall+int64(time.Minute))
			}
			m.world.newUserKey(te, user.Draw(t, "user"), userDigest.Draw(t, "digest"), expires)
		case 12:
			m.world.revokeUserKey(userDigest.Draw(t, "digest"))
		case 13:
			m.world.setStrict(te, rapid.Bool().Draw(t, "strict"))
		case 14, 15:
			m.world.beginKey(te, rapid.IntRange(0, 3).Draw(t, "clear") == 0)
		case 16:
			m.world.finishKey(te)
		}
	}
	return map[string]func(*rapid.T){
		"": func(*rapid.T) { m.settle() },
		"furnish": func(t *rapid.T) {
			// Enough that something is allowed.
			for _, te := range []store.TenantID{1, 2} {
				m.world.addRole(te, "editor")
				m.world.setPermission(te, "editor", "edit", true)
				m.world.setMember(te, policy.KindUser, "ann", "editor", true, 0, false)
			}
			m.world.newUserKey(1, "ann", store.Digest{0, 2}, time.Time{})
			m.world.newKey(1, client(store.Digest{0, 1}), store.Digest{0, 1})
			m.world.setMember(1, policy.KindClient, client(store.Digest{0, 1}), "editor", true, 0, false)
			for _, kid := range []string{"", "k0", "k1"} {
				m.world.setSigning(kid, true)
			}
		},
		"a token that is denied, in memory all along": func(t *rapid.T) {
			q := question{jwt: jwt(t), permission: "edit"}
			q.tenant = q.jwt.tenant
			m.check(q)
			deny(t)
			m.sync()
			m.check(q)
			if rapid.Bool().Draw(t, "another key") {
				m.world.beginKey(q.tenant, false)
				if rapid.Bool().Draw(t, "finish") {
					m.world.finishKey(q.tenant)
				}
				m.check(q)
				m.sync()
				m.check(q)
			}
			if rapid.Bool().Draw(t, "allow") {
				m.world.allow(denial(t))
				m.sync()
				m.check(q)
			}
		},
		"write":  write,
		"write2": write,
		"check":  func(t *rapid.T) { m.check(check(t)) },
		"check2": func(t *rapid.T) { m.check(check(t)) },
		"check twice, the second joining the first": func(t *rapid.T) {
			q := check(t)
			m.hold(&m.world.holdLoads, 1)
			m.check(q)
			write(t)
			if rapid.Bool().Draw(t, "sync between") {
				m.sync()
			}
			m.check(q)
			m.world.release(rapid.IntRange(0, 3).Draw(t, "which"))
			synctest.Wait()
		},
		"check while writes go by": func(t *rapid.T) {
			// The writes touch what the check asks about, in the order that hurts.
			q := question{tenant: 1, user: user.Draw(t, "user"), permission: "edit"}
			m.hold(&m.world.holdLoads, 1)
			m.check(q)
			for range rapid.IntRange(1, 3).Draw(t, "writes") {
				has := rapid.Bool().Draw(t, "has")
				if rapid.Bool().Draw(t, "permission") {
					m.world.setPermission(1, "editor", "edit", has)
				} else {
					m.world.setMember(1, policy.KindUser, q.user, "editor", has, 0, false)
				}
			}
			m.world.release(rapid.IntRange(0, 3).Draw(t, "which"))
			synctest.Wait()
			m.check(q)
		},
		"check across a change of the key": func(t *rapid.T) {
			q := check(t)
			m.check(q)
			m.world.beginKey(q.tenant, false)
			if rapid.Bool().Draw(t, "sync") {
				m.sync()
			}
			m.check(q)
			if rapid.Bool().Draw(t, "finish") {
				m.world.finishKey(q.tenant)
			}
			for range rapid.IntRange(1, 3).Draw(t, "writes") {
				write(t)
			}
			m.sync()
			m.check(q)
		},
		"sync": func(*rapid.T) { m.sync() },
		"sync that stops": func(*rapid.T) {
			m.hold(&m.world.holdDeltas, 1)
			m.sync()
		},
		"hold loads":    func(t *rapid.T) { m.hold(&m.world.holdLoads, rapid.IntRange(1, 2).Draw(t, "n")) },
		"hold an index": func(*rapid.T) { m.hold(&m.world.holdIndexes, 1) },
		"release": func(t *rapid.T) {
			m.world.release(rapid.IntRange(0, 5).Draw(t, "which"))
			synctest.Wait()
		},
		"lag":  func(t *rapid.T) { m.hold(&m.world.lag, rapid.IntRange(1, 4).Draw(t, "states")) },
		"time": func(t *rapid.T) { m.pass(time.Duration(rapid.IntRange(1, 40).Draw(t, "s")) * time.Second) },
		"hours": func(*rapid.T) {
			m.pass(2 * time.Hour)
			m.sync()
		},
		"a clock that is a day ahead for a moment": func(t *rapid.T) {
			m.wall.Add(int64(24 * time.Hour))
			m.pass(15 * time.Second)
			m.sync()
			m.wall.Add(-int64(24 * time.Hour))
			m.sync()
			m.check(check(t))
		},
		"budget runs out": func(*rapid.T) {
			m.pass(60 * time.Millisecond)
		},
		"wall clock set": func(t *rapid.T) {
			m.wall.Add(int64(rapid.SampledFrom([]time.Duration{-time.Hour, -6 * time.Second, time.Second, 10 * time.Second, time.Hour}).Draw(t, "by")))
		},
		"suspend": func(t *rapid.T) {
			d := rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(t, "for")
			m.pass(d)
			m.asleep.Add(int64(d))
		},
		"store away": func(t *rapid.T) {
			m.setBroken(true)
			m.check(check(t))
			m.sync()
			m.setBroken(false)
		},
		"restore": func(t *rapid.T) {
			m.tally.Restored++
			m.world.restore(rapid.IntRange(1, 6).Draw(t, "revisions"))
			for range rapid.IntRange(0, 6).Draw(t, "writes after") {
				write(t)
			}
		},
		"restart": func(t *rapid.T) {
			m.tally.Restarts++
			m.start()
		},
	}
}

func (m *machine) hold(field *int, n int) {
	m.world.mu.Lock()
	*field = n
	m.world.mu.Unlock()
}

// pass lets time pass, and waits for what it set off.
func (m *machine) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (m *machine) setBroken(broken bool) {
	m.world.mu.Lock()
	m.world.broken = broken
	m.world.mu.Unlock()
}

func (m *machine) sync() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	go func() {
		defer cancel()
		m.cache.hear(ctx)
	}()
	synctest.Wait()
}

// check starts a check; it is judged when it ends.
func (m *machine) check(q question) {
	c := m.cache
	p := &pendingCheck{q: q, from: -1}
	if s := c.Snapshot(); s != nil {
		if s.Revision.Number != c.Applied() {
			m.rt.Fatalf("snapshot %d, published %d", s.Revision.Number, c.Applied())
		}
		p.from = m.indexOf(s.Revision)
	}
	m.pending = append(m.pending, p)
	loads := m.world.answered()
	named := holding{q.tenant, q.user}
	if m.holders[named] == nil {
		m.holders[named] = &Holder{}
	}
	holder := m.holders[named]
	if q.jwt != nil {
		q.jwt.mint(m.ring)
	}
	go func() {
		p.reason, p.at = askAt(c, q, holder, func(s *Snapshot) {
			// After a restored backup, a full load from a store that lags goes back
			// behind it.
			if i := m.world.indexOf(s.Revision); i >= 0 {
				p.from = min(p.from, i)
			}
		})
		p.done.Store(true)
	}()
	synctest.Wait()
	if p.done.Load() && p.reason == policy.ReasonOK && m.world.answered() == loads {
		m.tally.Hits++
	}
	if !p.done.Load() {
		m.tally.Late++
	}
}

func (m *machine) indexOf(r store.Revision) int {
	i := m.world.indexOf(r)
	if i < 0 {
		m.rt.Fatalf("the snapshot is at a revision that never was")
	}
	return i
}

// ask is one check, as the gate runs it; holder is for the user that is named.
func ask(c *Cache, q question, holder *Holder) (policy.Reason, int64) {
	return askAt(c, q, holder, func(*Snapshot) {})
}

// askAt is ask that tells each snapshot that the check takes.
func askAt(c *Cache, q question, holder *Holder, taken func(*Snapshot)) (policy.Reason, int64) {
	now := c.Now()
	for range 2 {
		s := c.Snapshot()
		if s == nil {
			return policy.ReasonNoSnapshot, now.Wall
		}
		taken(s)
		var jwt *Token
		if q.jwt != nil {
			var reason policy.Reason
			if jwt, reason = c.Token([]byte(q.jwt.raw()), now); reason != policy.ReasonOK {
				return reason, now.Wall
			}
		}
		if r := c.Fresh(now); r != policy.ReasonOK {
			return r, now.Wall
		}
		reason, end := answer(c, s, q, jwt, holder, now)
		if end != Retake {
			return reason, now.Wall
		}
	}
	return policy.ReasonStoreUnavailable, now.Wall
}

func answer(c *Cache, s *Snapshot, q question, jwt *Token, holder *Holder, now Instant) (policy.Reason, Lookup) {
	tenant, kind, id := q.tenant, policy.KindUser, q.user
	if q.key != nil {
		k, reason, end := c.Key(s, *q.key, now)
		if end != Found || reason != policy.ReasonOK {
			return reason, end
		}
		tenant, kind, id, holder = k.Tenant, policy.KindClient, k.Name, &k.Holder
	}
	if jwt != nil {
		t, _ := s.Tenant(jwt.Principal.Tenant)
		if reason, end := c.Denied(s, t, jwt, now); end != Found || reason != policy.ReasonOK {
			return reason, end
		}
		kind, id, holder = jwt.Principal.Kind, jwt.Principal.ID, &jwt.Holder
	}
	if q.userKey != nil {
		k, reason, end := c.UserKey(s, *q.userKey, now)
		if end != Found || reason != policy.ReasonOK {
			return reason, end
		}
		tenant, id, holder = k.Tenant, k.User, &k.Holder
	}
	t, ok := s.TenantByID(tenant)
	if !ok {
		return policy.ReasonWrongTenant, Absent
	}
	held, end := c.Grant(s, t, kind, id, holder, now)
	if end != Found {
		return end.Reason(policy.ReasonMissingPermission), end
	}
	roles, end := c.Roles(s, t, now)
	if end != Found {
		return end.Reason(policy.ReasonMissingPermission), end
	}
	if !policy.KeyBacked(t.StrictUsers, kind, held.KeyBackedUntil, now.Wall) {
		return policy.ReasonNotKeyBacked, Found
	}
	if roles.Allows(held.Roles, now.Wall, q.permission) {
		return policy.ReasonOK, Found
	}
	return policy.ReasonMissingPermission, Found
}

// swept is how many marks the process dropped.
func (m *machine) swept() int { return int(testutil.ToFloat64(m.cache.metrics.swept)) }

// settle judges every check that has ended.
func (m *machine) settle() {
	m.pending = slices.DeleteFunc(m.pending, func(p *pendingCheck) bool {
		if !p.done.Load() {
			return false
		}
		m.judge(p)
		return true
	})
}

// judge holds one verdict against the law.
func (m *machine) judge(p *pendingCheck) {
	if p.reason.Effect() == policy.Fault || p.reason == policy.ReasonOverloaded {
		m.tally.Faults++
		return
	}
	allowed := p.reason == policy.ReasonOK
	if allowed {
		m.tally.Allowed++
	} else {
		m.tally.Denied++
	}
	if p.q.jwt != nil && allowed {
		m.tally.ByToken++
	}
	if p.q.jwt != nil && p.reason == policy.ReasonRevoked {
		m.tally.Revoked++
	}
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	for _, s := range m.world.log[max(p.from, 0):] {
		if s.allows(p.q, p.at) == allowed {
			return
		}
	}
	m.rt.Fatalf("the law is broken: %v: %v (%v) at no revision since %d", p.q, allowed, p.reason, m.world.log[max(p.from, 0)].revision.Number)
}

func (s *state) allows(q question, now int64) bool {
	if q.jwt != nil {
		k := q.jwt
		return s.takes(*k, now) && (k.kind != policy.KindUser || !s.strict[k.tenant] || now < s.backed(k.tenant, k.id)) &&
			s.holds(k.tenant, k.kind, k.id, q.permission, now)
	}
	if q.userKey != nil {
		k, ok := s.userKeys[*q.userKey]
		return ok && k.Revoked.IsZero() && (k.Expires.IsZero() || now < k.Expires.UnixNano()) &&
			s.holds(k.Tenant, policy.KindUser, k.User, q.permission, now)
	}
	if q.key == nil {
		return (!s.strict[q.tenant] || now < s.backed(q.tenant, q.user)) &&
			s.holds(q.tenant, policy.KindUser, q.user, q.permission, now)
	}
	k, ok := s.keys[*q.key]
	return ok && k.Revoked.IsZero() && s.holds(k.Tenant, policy.KindClient, k.Name, q.permission, now)
}
