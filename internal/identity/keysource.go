package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"portcullis/policy"
)

// fetching is how the keys of outside issuers are fetched.
type fetching struct {
	refresh  time.Duration // between refreshes
	retry    time.Duration // after the first failed one; doubled from then on, up to refresh
	unknown  time.Duration // between fetches for the sake of an unknown kid, least
	timeout  time.Duration // of one fetch
	outage   time.Duration // for how long the last good keys hold
	negative time.Duration // how long a kid that was not in the set is not asked for again
}

// maxNegative bounds the kids that are remembered as unknown.
const maxNegative = 1024

// sourceID says where keys come from. Two entries of the policy with one sourceID
// share their keys, so an edit of anything else loses none.
type sourceID struct {
	issuer, url, caFile string
	discovery, insecure bool
}

func sourceOf(i *policy.Issuer) sourceID {
	return sourceID{issuer: i.Name, url: i.JWKSURL, caFile: i.CAFile, discovery: i.Discovery, insecure: i.InsecureHTTP}
}

// keySource keeps the keys of one issuer. Readers take no lock while they find
// their key. It is safe for concurrent use.
type keySource struct {
	id      sourceID
	cfg     fetching
	now     func() time.Time
	log     *slog.Logger
	metrics *issuerMetrics

	set     atomic.Pointer[keySet] // never nil
	fetched atomic.Int64           // Unix nanoseconds of the last good fetch; 0 before it

	mu       sync.Mutex
	flight   *keyFetch            // under way, or nil
	due      time.Time            // of the next refresh
	failures int                  // in a row
	asked    time.Time            // of the last fetch for an unknown kid
	negative map[string]time.Time // unknown kids, and when each may be asked for again

	// Of the fetch under way, and under mu where there is none.
	keysURL string // found by discovery; "" asks again
	ca      string // text of the CA file that client trusts
	client  *http.Client
}

// keyFetch is one fetch that everybody waits for who needs it.
type keyFetch struct {
	done chan struct{}
	good bool // once it is done: it brought a set
}

func newKeySource(id sourceID, cfg fetching, now func() time.Time, log *slog.Logger, metrics *issuerMetrics) *keySource {
	s := &keySource{id: id, cfg: cfg, now: now, log: log, metrics: metrics, negative: map[string]time.Time{}}
	s.set.Store(&keySet{generation: 1})
	return s
}

// keys returns the set that holds now.
func (s *keySource) keys() *keySet {
	set := s.set.Load()
	if len(set.keys) > 0 && s.outdated() {
		return &keySet{generation: set.generation}
	}
	return set
}

// outdated reports whether the last good keys are too old to be trusted.
func (s *keySource) outdated() bool {
	return s.now().Sub(time.Unix(0, s.fetched.Load())) > s.cfg.outage
}

// seek begins, or joins, a fetch for the sake of a kid that is not in the set. It
// is nil where none may begin: the kid was not there a moment ago, or another
// unknown one had its fetch. One that was joined may have begun before the key was
// published.
func (s *keySource) seek(id string) (f *keyFetch, joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if until, ok := s.negative[id]; ok && now.Before(until) {
		return nil, false
	}
	if s.flight != nil {
		return s.flight, true
	}
	if !s.asked.IsZero() && now.Sub(s.asked) < s.cfg.unknown {
		return nil, false
	}
	s.asked = now
	return s.begin(), false
}

// unknown remembers that a kid was not in a fresh set.
func (s *keySource) unknown(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if len(s.negative) >= maxNegative {
		for k, until := range s.negative {
			if !now.Before(until) {
				delete(s.negative, k)
			}
		}
	}
	if len(s.negative) < maxNegative {
		s.negative[id] = now.Add(s.cfg.negative)
	}
}

// upkeep begins a refresh where one is due, and drops keys that are too old.
func (s *keySource) upkeep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight == nil && !s.now().Before(s.due) {
		s.keysURL = "" // it may have moved
		s.begin()
	}
	if set := s.set.Load(); len(set.keys) > 0 && s.outdated() {
		s.set.Store(&keySet{generation: set.generation + 1})
		s.log.Error("the keys of an issuer are too old and are no longer used", "issuer", s.id.issuer, "bound", s.cfg.outage.String())
	}
}

// begin starts a fetch. The caller holds mu, and no fetch is under way.
func (s *keySource) begin() *keyFetch {
	f := &keyFetch{done: make(chan struct{})}
	s.flight = f
	go func() {
		set, err := s.fetch()
		s.finish(set, err)
		f.good = err == nil
		close(f.done)
	}()
	return f
}

// finish takes what a fetch brought. A failed one leaves the keys as they are.
func (s *keySource) finish(set *keySet, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flight = nil
	if err != nil {
		wait := min(s.cfg.retry<<min(s.failures, 16), s.cfg.refresh)
		s.failures++
		s.due = s.now().Add(wait)
		s.metrics.fetches.WithLabelValues(s.id.issuer, "error").Inc()
		s.log.Warn("fetching the keys of an issuer failed", "issuer", s.id.issuer, "error", err)
		return
	}
	s.failures = 0
	s.due = s.now().Add(s.cfg.refresh)
	s.metrics.fetches.WithLabelValues(s.id.issuer, "ok").Inc()
	former := s.set.Load()
	set.generation = former.generation
	withdrawn := former.lacks(set)
	if withdrawn {
		set.generation++
	}
	if withdrawn || set.lacks(former) {
		clear(s.negative)
		s.log.Info("the keys of an issuer changed", "issuer", s.id.issuer, "keys", len(set.keys), "ignored", set.ignored)
	}
	// The set carries its generation, so that a key of the former set never comes
	// with the new number.
	s.fetched.Store(s.now().UnixNano())
	s.set.Store(set)
}

// fetch gets the key set, by way of discovery where that is asked for.
func (s *keySource) fetch() (set *keySet, err error) {
	defer func() {
		if r := recover(); r != nil { // a fault in a parser must not end the process
			err = fmt.Errorf("the key set could not be read: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.timeout)
	defer cancel()
	if err := s.trust(); err != nil {
		return nil, err
	}
	link := s.id.url
	if s.id.discovery {
		if s.keysURL == "" {
			if s.keysURL, err = s.discover(ctx); err != nil {
				return nil, err
			}
		}
		link = s.keysURL
	}
	text, err := s.get(ctx, link)
	if err == nil {
		set, err = parseKeySet(text)
	}
	if err != nil {
		s.keysURL = "" // it may have moved
		return nil, fmt.Errorf("%s: %w", link, err)
	}
	return set, nil
}

// discover reads the provider's own document (OpenID Connect Discovery 1.0, 4).
func (s *keySource) discover(ctx context.Context) (string, error) {
	link := strings.TrimSuffix(s.id.issuer, "/") + "/.well-known/openid-configuration"
	text, err := s.get(ctx, link)
	if err != nil {
		return "", fmt.Errorf("%s: %w", link, err)
	}
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if _, err := readObject(text); err != nil {
		return "", fmt.Errorf("%s: %w", link, err)
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return "", fmt.Errorf("%s: a member has a wrong type", link)
	}
	if doc.Issuer != s.id.issuer {
		return "", fmt.Errorf("%s: it is the document of issuer %.200q", link, doc.Issuer)
	}
	if wrong := policy.CheckIssuerURL(doc.Keys, s.id.insecure); wrong != "" {
		return "", fmt.Errorf("%s: jwks_uri: %s", link, wrong)
	}
	return doc.Keys, nil
}

// get reads a document of at most 1 MiB. Redirections are refused: the policy says
// whom the gate trusts, not a server.
func (s *keySource) get(ctx context.Context, link string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		var named *url.Error
		if errors.As(err, &named) {
			err = named.Err // the URL is named already
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxKeySetSize {
		return nil, fmt.Errorf("more than %d bytes", maxKeySetSize)
	}
	return text, nil
}

// trust makes the client anew where the CA file has changed.
func (s *keySource) trust() error {
	roots, text, err := readAuthorities(s.id.caFile)
	if err != nil {
		return err
	}
	if s.client != nil && text == s.ca {
		return nil
	}
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	s.ca = text
	s.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			MaxIdleConns:           2,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

// readAuthorities reads a CA file; without one the system's authorities hold.
func readAuthorities(file string) (*x509.CertPool, string, error) {
	if file == "" {
		return nil, "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, "", fmt.Errorf("ca_file: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, "", fmt.Errorf("ca_file %s: no PEM certificate in it", file)
	}
	return roots, string(text), nil
}
