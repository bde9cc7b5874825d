package admin_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"portcullis/admin"
	"portcullis/internal/chain"
	"portcullis/internal/identity"
	"portcullis/internal/store"
)

// A flood of failed sign-ins, and who writes beside it.
const (
	floodSenders = 32
	honestEvery  = 40 * time.Millisecond // half of what AUTH_RATE_LIMIT_WRITES admits by default
)

// floodSize is how many sign-ins fail from how many addresses, in how long:
// PORTCULLIS_FLOOD in a minute, or some as fast as they go.
func floodSize(t *testing.T) (signIns, addresses, quietWrites int, over time.Duration) {
	t.Helper()
	text := os.Getenv("PORTCULLIS_FLOOD")
	if text == "" {
		return 2000, 20, 25, 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 10_000 || n > 10_000_000 {
		t.Fatalf("PORTCULLIS_FLOOD: %q is no number from 10000 on", text)
	}
	return n, 1000, 500, time.Minute
}

// TestHonestWritesGoOnInAFlood fails to sign in from many addresses while an honest
// client writes: not one write fails, and the audit gets at most one row an address
// and minute, which together tell of every failure; the chains verify. `make flood` makes 100,000 from
// 1,000 addresses and prints what the writes took.
func TestHonestWritesGoOnInAFlood(t *testing.T) {
	for _, b := range countedBackends {
		t.Run(b.name, func(t *testing.T) { flood(t, b) })
	}
}

func flood(t *testing.T, b counted) {
	signIns, addresses, quietWrites, over := floodSize(t)
	st, count := b.open(t)
	_, err := st.StartChain(t.Context(), store.Actor{Name: "test"})
	must(t, err)
	h := newHouse(t, options{
		open: func(testing.TB) store.Store { return st }, proxies: ours(t),
		limits: admin.Limits{Reads: perMinute(6000), Writes: perMinute(3000), Failures: perMinute(5), Unauthenticated: perMinute(600)},
	})
	running, stop := context.WithCancel(context.Background())
	defer stop()
	wrote := make(chan error, 1)
	go func() { wrote <- h.api.Run(running) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: floodSenders + 1}}
	defer client.CloseIdleConnections()

	honest := &honestWriter{client: client, addr: h.addr, key: h.keys["manager"]}
	quiet := honest.write(t, func(n int) bool { return n < quietWrites })
	rows := count(t)[auditFailures]

	began := time.Now()
	var over429, flooding atomic.Int64
	flooding.Store(floodSenders)
	var senders sync.WaitGroup
	var next atomic.Int64
	for range floodSenders {
		senders.Go(func() {
			defer flooding.Add(-1)
			for i := next.Add(1) - 1; i < int64(signIns); i = next.Add(1) - 1 {
				time.Sleep(time.Until(began.Add(over * time.Duration(i) / time.Duration(signIns))))
				status, err := failToSignIn(client, h.addr, int(i), addresses)
				switch {
				case err != nil:
					t.Errorf("sign-in %d: %v", i, err)
				case status == 429:
					over429.Add(1)
				case status != 401:
					t.Errorf("sign-in %d: %d", i, status)
				}
			}
		})
	}
	beside := honest.write(t, func(n int) bool { return n == 0 || flooding.Load() > 0 })
	senders.Wait()
	took := time.Since(began)
	stop()
	must(t, <-wrote)
	minutes := int(time.Now().Unix()/60 - began.Unix()/60 + 1)

	all, byMinute := 0, map[string]int{}
	for _, r := range h.failedRows(t) {
		all += r.Count
		minute := r.Address + " " + r.Last[:len("2006-01-02T15:04")]
		if byMinute[minute]++; byMinute[minute] > 1 || r.Reason != "bad_key" || r.Addresses != "" {
			t.Errorf("row %+v is not the one of its address and minute", r)
		}
	}
	added := count(t)[auditFailures] - rows
	if all != signIns || added != len(byMinute) || added > addresses*minutes || added < addresses {
		t.Errorf("%d rows tell of %d failures: want %d from %d addresses in %d minutes", added, all, signIns, addresses, minutes)
	}
	// Five an address at once, then one every 12 s; the rest must not have been let on.
	if admitted := signIns - int(over429.Load()); admitted > addresses*(5+int(took/(12*time.Second))+1) {
		t.Errorf("%d sign-ins were let on", admitted)
	}
	verified, err := store.VerifyAudit(t.Context(), st, store.Verification{Found: func(f chain.Fault) { t.Error(f) }})
	must(t, err)
	q50, q99 := quantiles(quiet)
	f50, f99 := quantiles(beside)
	t.Logf("%d failed sign-ins from %d addresses in %.1f s: %d answered 401, %d answered 429; %d audit rows in %d minutes",
		signIns, addresses, took.Seconds(), signIns-int(over429.Load()), over429.Load(), added, minutes)
	t.Logf("the audit's chains verify: %d rows", verified.Rows)
	t.Logf("honest writes: quiet %d, p50 %s, p99 %s; in the flood %d, none failed, p50 %s, p99 %s: %.1f times the quiet p99",
		len(quiet), q50, q99, len(beside), f50, f99, float64(f99)/float64(q99))
}

// failToSignIn is the i-th failure: a key that nobody has, now and then as an OAuth
// client's.
func failToSignIn(client *http.Client, addr string, i, addresses int) (status int, err error) {
	key := identity.NewClientKey()
	request, err := http.NewRequest(http.MethodGet, "http://"+addr+"/api/roles", nil)
	if i%10 == 9 {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"default/manager"}, "client_secret": {string(key[:])}}
		request, err = http.NewRequest(http.MethodPost, "http://"+addr+"/oauth/token", strings.NewReader(form.Encode()))
	}
	if err != nil {
		return 0, err
	}
	if i%10 == 9 {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		request.Header.Set("Authorization", "Bearer "+string(key[:]))
	}
	// A multiple of ten addresses would give the OAuth client always the same ones.
	n := (i + i/addresses) % addresses
	request.Header.Set("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", n/250, 1+n%250))
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// honestWriter writes at its pace, from an address of the flood's.
type honestWriter struct {
	client    *http.Client
	addr, key string
	n         int
}

// write goes on while more says so, and returns how long each write took.
func (w *honestWriter) write(t *testing.T, more func(n int) bool) (took []time.Duration) {
	t.Helper()
	for more(len(took)) {
		w.n++
		request, err := http.NewRequest(http.MethodPost, "http://"+w.addr+"/api/role/honest"+strconv.Itoa(w.n), nil)
		must(t, err)
		request.Header.Set("Authorization", "Bearer "+w.key)
		request.Header.Set("X-Forwarded-For", "198.18.0.1")
		began := time.Now()
		response, err := w.client.Do(request)
		must(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		must(t, err)
		response.Body.Close()
		took = append(took, time.Since(began))
		if response.StatusCode != http.StatusOK {
			t.Errorf("honest write %d: %d", w.n, response.StatusCode)
		}
		time.Sleep(honestEvery - time.Since(began))
	}
	return took
}

func quantiles(took []time.Duration) (p50, p99 time.Duration) {
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return took[len(took)/2].Round(10 * time.Microsecond), took[len(took)*99/100].Round(10 * time.Microsecond)
}
