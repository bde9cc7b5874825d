package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/policy"
)

// VerifiersConfig configures Verifiers. Own is required; the other fields have the
// defaults that they name.
type VerifiersConfig struct {
	// Own verifies the tokens of our own.
	Own *Verifier

	Workers int           // asymmetric signatures verified at once; default GOMAXPROCS
	Queue   int           // callers that wait for their turn; default 64 for each worker
	Wait    time.Duration // how long one token may wait for keys and its turn; default 100 ms

	Refresh time.Duration // between fetches of an issuer's keys; default 5 min
	Unknown time.Duration // between fetches for unknown kids of one issuer, least; default 10 s
	Timeout time.Duration // of one fetch; default 5 s
	Outage  time.Duration // how long keys hold that cannot be refreshed; default 24 h

	Now        func() time.Time      // default time.Now
	Registerer prometheus.Registerer // default: metrics are kept but not exported
	Logger     *slog.Logger          // default: discards
}

// Verifiers verifies the tokens of our own and of the outside issuers that the
// policy file names. The unverified `iss` picks exactly one verifier, and there is
// no second try. All methods are safe for concurrent use.
type Verifiers struct {
	cfg      VerifiersConfig
	fetching fetching
	permits  *permits
	metrics  *issuerMetrics
	own      *turns // for the asymmetric tokens of our own

	apply sync.Mutex // one Apply at a time
	table atomic.Pointer[issuerTable]
	wake  chan struct{}
}

// issuerTable is the outside issuers of one policy. It is immutable.
type issuerTable struct {
	byName  map[string]*outside
	sources map[sourceID]*keySource
}

// retryFetch is how soon a first failed fetch is repeated.
const retryFetch = time.Second

// upkeepEvery is how often due refreshes are looked for.
const upkeepEvery = time.Second

// NewVerifiers returns Verifiers without outside issuers. An invalid config is an
// error that names the field.
func NewVerifiers(cfg VerifiersConfig) (*Verifiers, error) {
	if cfg.Own == nil {
		return nil, errors.New("identity: Own is required")
	}
	if cfg.Workers == 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Queue == 0 {
		cfg.Queue = 64 * cfg.Workers
	}
	if cfg.Workers < 1 || cfg.Queue < 1 {
		return nil, errors.New("identity: Workers and Queue are at least 1")
	}
	for field, standard := range map[*time.Duration]time.Duration{
		&cfg.Wait: 100 * time.Millisecond, &cfg.Refresh: 5 * time.Minute, &cfg.Unknown: 10 * time.Second,
		&cfg.Timeout: 5 * time.Second, &cfg.Outage: 24 * time.Hour,
	} {
		if *field == 0 {
			*field = standard
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	v := &Verifiers{
		cfg: cfg,
		fetching: fetching{
			refresh: cfg.Refresh, retry: min(retryFetch, cfg.Refresh), unknown: cfg.Unknown,
			timeout: cfg.Timeout, outage: cfg.Outage, negative: 3 * cfg.Unknown,
		},
		permits: newPermits(cfg.Workers, cfg.Queue),
		wake:    make(chan struct{}, 1),
	}
	v.table.Store(&issuerTable{})
	v.metrics = newIssuerMetrics(cfg.Registerer, v)
	v.own = &turns{permits: v.permits, wait: cfg.Wait, shed: v.metrics.shed}
	return v, nil
}

// Check says what stands against outside issuers that the policy file cannot know:
// a name that is our own, or a CA file that cannot be read.
func (v *Verifiers) Check(issuers []policy.Issuer) error {
	own := v.cfg.Own.state.Load().issuer
	var errs []error
	for i := range issuers {
		if own != "" && issuers[i].Name == own {
			errs = append(errs, fmt.Errorf("line %d: issuer %q is AUTH_JWT_ISSUER, that of our own tokens; give one of them another name", issuers[i].Line, own))
		}
		if _, _, err := readAuthorities(issuers[i].CAFile); err != nil {
			errs = append(errs, fmt.Errorf("line %d: issuer %q: %w", issuers[i].Line, issuers[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

// Apply replaces the outside issuers. Those that did not change keep everything;
// one that changed keeps its keys where they come from the same place, but no
// token that was verified under the former entry counts as verified any more.
func (v *Verifiers) Apply(issuers []policy.Issuer) {
	v.apply.Lock()
	defer v.apply.Unlock()
	former := v.table.Load()
	next := &issuerTable{byName: make(map[string]*outside, len(issuers)), sources: make(map[sourceID]*keySource, len(issuers))}
	for _, entry := range issuers {
		id := sourceOf(&entry)
		source := former.sources[id]
		if source == nil {
			source = newKeySource(id, v.fetching, v.cfg.Now, v.cfg.Logger, v.metrics)
			v.metrics.begin(entry.Name)
		}
		next.sources[id] = source
		o := former.byName[entry.Name]
		if o == nil || o.source != source || !sameEntry(o.entry, entry) {
			o = v.newOutside(entry, source)
		}
		next.byName[entry.Name] = o
	}
	v.table.Store(next)
	for name, o := range former.byName {
		if next.byName[name] != o {
			o.retired.Store(true)
		}
		if next.byName[name] == nil {
			v.metrics.end(name)
		}
	}
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// sameEntry compares two entries wherever in the file they stand.
func sameEntry(a, b policy.Issuer) bool {
	a.Line, b.Line = 0, 0
	return reflect.DeepEqual(a, b)
}

// Run fetches keys until ctx ends, and returns nil then. Run it once.
func (v *Verifiers) Run(ctx context.Context) error {
	tick := time.NewTicker(min(upkeepEvery, v.cfg.Refresh))
	defer tick.Stop()
	for {
		for _, source := range v.table.Load().sources {
			source.upkeep()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake:
		case <-tick.C:
		}
	}
}

// Verify verifies a token as it came after "Bearer ". It returns ReasonOK and the
// token, or nil and ReasonInvalidToken, ReasonExpired, or ReasonOverloaded for one
// that could not be judged in time.
func (v *Verifiers) Verify(token string) (*Token, policy.Reason) {
	t, refusal := v.verify(token, nil)
	if refusal != nil {
		return nil, refusal.Reason
	}
	return t, policy.ReasonOK
}

// Current reports whether a verified token counts as verified still: its keys, its
// issuer's entry and our own secret are the same. It allocates nothing.
func (v *Verifiers) Current(t *Token) bool {
	if t.outside != nil {
		return t.outside.current(t.Generation)
	}
	// Our own verifier may have taken an `iss` that the policy has since given away.
	return v.cfg.Own.Current(t) && v.table.Load().byName[t.Issuer] == nil
}

// Inspect examines a token as Verify does, and tells every step. The token is nil
// where it was refused; then the last step says why, and reason is for the caller.
func (v *Verifiers) Inspect(token string) (steps []Step, t *Token, reason policy.Reason) {
	tr := &trace{}
	t, refusal := v.verify(token, tr)
	tr.end(refusal)
	if refusal != nil {
		return tr.steps, nil, refusal.Reason
	}
	return tr.steps, t, policy.ReasonOK
}

func (v *Verifiers) verify(token string, tr *trace) (*Token, *Refusal) {
	table := v.table.Load()
	if len(table.byName) > 0 || tr != nil {
		tr.step("shape")
		if _, _, refusal := splitToken(token); refusal != nil {
			return nil, refusal
		}
		tr.step("verifier")
		name := peekIssuer(token)
		if o := table.byName[name]; o != nil {
			if tr != nil {
				tr.found(fmt.Sprintf("issuer %q of the policy", name))
			}
			return o.verify(token, tr)
		}
		if tr != nil {
			tr.found(fmt.Sprintf("our own: the policy has no issuer %q", name))
		}
	}
	return v.cfg.Own.verify(token, tr, v.own)
}

// peekIssuer reads the unverified `iss`, "" where there is none to be read. It only
// picks a verifier, which will read it again.
func peekIssuer(token string) string {
	_, segment, refusal := splitToken(token)
	if refusal != nil {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return ""
	}
	members, err := readObject(text)
	if err != nil {
		return ""
	}
	for _, m := range members {
		if m.key == "iss" {
			name, _ := stringValue(m.value)
			return name
		}
	}
	return ""
}
