package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"portcullis/internal/identity"
	"portcullis/internal/store"
	"portcullis/internal/store/sqlite"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

const (
	// authRate is how many checks a second Auth itself answers for a user with one
	// role: 7 ms each.
	authRate = 1000.0 / 7

	checkConnections   = 4
	permissionsPerRole = 20
)

// checkUsers are the users that are asked about, by how many roles they have.
var checkUsers = []struct {
	name  string
	roles int
}{{"one", 1}, {"twenty", 20}}

// measureChecks asks a server of its own for has_permission over kept connections
// and prints the rates. Half of the answers are yes and half are no; each is
// verified.
func measureChecks(ctx context.Context, p plan, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "portcullis-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(stderr, "has_permission: building and furnishing ...")
	binary, db := filepath.Join(dir, "portcullis"), filepath.Join(dir, "bench.sqlite3")
	if err := testkit.BuildPortcullis(ctx, binary, "-trimpath"); err != nil {
		return err
	}
	key, err := furnishChecks(ctx, db)
	if err != nil {
		return err
	}
	gate, err := testkit.StartGate(ctx, testkit.GateConfig{Binary: binary, Dir: dir, Env: []string{
		"AUTH_SQLITE_PATH=" + db, "AUTH_EXTAUTHZ_LISTEN=unix://" + filepath.Join(dir, "gate.sock"),
		"AUTH_SERVER_PORT=0", "AUTH_METRICS_LISTEN=127.0.0.1:0",
	}})
	if err != nil {
		return err
	}
	defer gate.Stop()

	fmt.Fprintf(stdout, "\nhas_permission over %d kept HTTP connections, roles of %d permissions; Auth's own rate is %.0f/s at one role; medians of %d rounds of %v\n\n",
		checkConnections, permissionsPerRole, authRate, p.rounds, p.round)
	for _, u := range checkUsers {
		base := "http://" + gate.Admin() + "/api/has_permission/" + u.name + "/"
		yes, no := fmt.Sprintf("%sp%d-%d", base, u.roles-1, permissionsPerRole-1), base+"absent"
		if _, err := checkRate(ctx, key, yes, no, p.warm); err != nil {
			return err
		}
		var rates []float64
		for range p.rounds {
			rate, err := checkRate(ctx, key, yes, no, p.round)
			if err != nil {
				return err
			}
			rates = append(rates, rate)
		}
		rate := median(rates)
		fmt.Fprintf(stdout, "%2d roles: %.0f checks/s, %.0f times Auth's rate; the target is at least 20\n", u.roles, rate, rate/authRate)
	}
	return nil
}

// furnishChecks fills a new SQLite file and returns a client key of it.
func furnishChecks(ctx context.Context, file string) (key string, err error) {
	st, err := sqlite.Open(ctx, sqlite.Config{Path: file})
	if err != nil {
		return "", err
	}
	defer st.Close()
	tenant, err := st.TenantByName(ctx, store.DefaultTenant)
	if err != nil {
		return "", err
	}
	by := store.Actor{Name: "bench"}
	secret := identity.NewClientKey()
	if _, _, err := st.CreateKey(ctx, by, store.NewKey{
		Tenant: tenant.ID, Name: "bench", Digest: identity.KeyDigest(secret), Prefix: string(secret[:8]), Scopes: []store.Scope{store.ScopeCheck},
	}); err != nil {
		return "", err
	}
	for r := range checkUsers[len(checkUsers)-1].roles {
		role := fmt.Sprintf("r%d", r)
		if _, err := st.PutRole(ctx, by, tenant.ID, role, nil); err != nil {
			return "", err
		}
		for n := range permissionsPerRole {
			if _, err := st.AddPermission(ctx, by, tenant.ID, role, fmt.Sprintf("p%d-%d", r, n)); err != nil {
				return "", err
			}
		}
		for _, u := range checkUsers {
			if r >= u.roles {
				continue
			}
			if _, err := st.AddMember(ctx, by, tenant.ID, policy.KindUser, u.name, role, time.Time{}); err != nil {
				return "", err
			}
		}
	}
	return string(secret[:]), nil
}

// checkRate asks for so long, yes and no in turns, and returns checks a second.
func checkRate(ctx context.Context, key, yes, no string, length time.Duration) (float64, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: checkConnections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counts := make([]int, checkConnections)
	began := time.Now()
	var asking sync.WaitGroup
	for i := range counts {
		asking.Go(func() {
			for time.Since(began) < length && ctx.Err() == nil {
				url, want := yes, true
				if counts[i]%2 == 1 {
					url, want = no, false
				}
				if err := checkOnce(ctx, client, key, url, want); err != nil {
					cancel(err)
					return
				}
				counts[i]++
			}
		})
	}
	asking.Wait()
	took := time.Since(began)
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / took.Seconds(), nil
}

func checkOnce(ctx context.Context, client *http.Client, key, url string, want bool) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var body struct {
		Data struct {
			HasPermission bool `json:"has_permission"`
		}
	}
	if err := json.Unmarshal(text, &body); err != nil || response.StatusCode != http.StatusOK || body.Data.HasPermission != want {
		return fmt.Errorf("GET %s: %s %s: want has_permission %t", url, response.Status, text, want)
	}
	return nil
}
