package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portcullis/internal/store"
	"portcullis/internal/testkit"
	"portcullis/policy"
)

// waiter calls Wait for as long as the test runs, and yields its wake-ups.
func waiter(t *testing.T, st *Store) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	woken := make(chan struct{}, 100)
	go func() {
		for st.Wait(ctx) == nil {
			woken <- struct{}{}
		}
	}()
	wake(t, woken, "LISTEN is in force")
	return woken
}

func wake(t *testing.T, woken <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-woken:
	case <-time.After(20 * time.Second):
		t.Fatalf("no wake-up: %s", what)
	}
}

// settle takes the wake-ups that are still on their way.
func settle(woken <-chan struct{}) {
	for {
		select {
		case <-woken:
		case <-time.After(100 * time.Millisecond):
			return
		}
	}
}

func quiet(t *testing.T, woken <-chan struct{}) {
	t.Helper()
	select {
	case <-woken:
		t.Error("a wake-up without a reason")
	case <-time.After(150 * time.Millisecond):
	}
}

func TestWaitWakesForOthersNotifications(t *testing.T) {
	url := migrated(t)
	woken := waiter(t, openTest(t, url))
	quiet(t, woken)
	execSQL(t, url, `NOTIFY portcullis`)
	wake(t, woken, "NOTIFY by another program")
	execSQL(t, url, `NOTIFY another_channel`)
	quiet(t, woken)
	putRole(t, openTest(t, url), "editor")
	wake(t, woken, "a write by another process")
	execSQL(t, url, `BEGIN`, `NOTIFY portcullis`, `ROLLBACK`)
	quiet(t, woken)
}

func TestASilentListenerIsPingedAndGoesOn(t *testing.T) {
	url := migrated(t)
	st := openTest(t, url)
	st.listener.ping = 20 * time.Millisecond
	woken := waiter(t, st)
	time.Sleep(200 * time.Millisecond) // ten pings
	quiet(t, woken)
	execSQL(t, url, `NOTIFY portcullis`)
	wake(t, woken, "NOTIFY after pings")
}

func TestALostListenerIsAWakeUp(t *testing.T) {
	url := migrated(t)
	var log syncBuffer
	st, err := Open(t.Context(), Config{URL: url, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	woken := waiter(t, st)
	execSQL(t, url, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
	wake(t, woken, "the listener was made anew")
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings of one outage:\n%s", n, log.String())
	}
	execSQL(t, url, `NOTIFY portcullis`)
	wake(t, woken, "NOTIFY to the new listener")
}

func TestAServerThatCrashesAndComesBack(t *testing.T) {
	server := testkit.PostgresServer(t)
	url, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	st := openTest(t, url)
	tenant := tenantID(t, st)
	woken := waiter(t, st)
	for name, end := range map[string]func() error{"immediate shutdown": server.Crash, "SIGKILL": server.Kill, "restart": server.Stop} {
		t.Run(name, func(t *testing.T) {
			last := putRole(t, st, "before "+name).Revision
			wake(t, woken, "a write")
			settle(woken)
			if err := end(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if _, err := st.Head(ctx); err == nil {
				t.Error("Head answers without a server")
			}
			if _, err := st.PutRole(ctx, by, tenant, "none", nil); err == nil {
				t.Error("a write is answered without a server")
			}
			cancel()
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			// At the first call, over a pool of dead connections.
			head, err := st.Head(t.Context())
			if err != nil || head.Revision != last {
				t.Errorf("the head is %+v, error %v; the last write was answered with %+v", head.Revision, err, last)
			}
			wake(t, woken, "the server is back")
			settle(woken)
			execSQL(t, url, `NOTIFY portcullis`)
			wake(t, woken, "NOTIFY after the restart")
			settle(woken)
			if next := putRole(t, st, "after "+name).Revision; next.Number != last.Number+1 {
				t.Errorf("the next write is revision %d, want %d", next.Number, last.Number+1)
			}
		})
	}
}

func TestTheNotificationCarriesTheChange(t *testing.T) {
	url := migrated(t)
	st := openTest(t, url)
	tenant := tenantID(t, st)
	putRole(t, st, "editor")
	ear := connect(t, url)
	if _, err := ear.Exec(t.Context(), sqlListen); err != nil {
		t.Fatal(err)
	}
	hear := func() notice {
		t.Helper()
		n, err := ear.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(n.Payload) >= 8000 {
			t.Errorf("a payload of %d bytes", len(n.Payload))
		}
		var out notice
		dec := json.NewDecoder(bytes.NewBufferString(n.Payload))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&out); err != nil {
			t.Fatalf("%s: %v", n.Payload, err)
		}
		return out
	}

	t.Run("one principal", func(t *testing.T) {
		r, err := st.AddMember(t.Context(), by, tenant, policy.KindUser, "alice", "editor", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		n := hear()
		index := store.PlainIndex(tenant, policy.KindUser, "alice")
		if n.Revision != r.Revision.Number || n.Tag != r.Revision.Tag.String() || n.Omitted || len(n.Changes) != 1 ||
			n.Changes[0] != (noticeChange{Kind: store.ChangeGrant, Tenant: tenant, Index: store.Digest(append(index[:], make([]byte, 16)...)).String()[:32]}) {
			t.Errorf("heard %+v of %+v", n, r)
		}
	})
	t.Run("nothing changed", func(t *testing.T) {
		if r := putRole(t, st, "editor"); r.Outcome != store.OutcomeUnchanged {
			t.Fatalf("outcome %v", r.Outcome)
		}
		if n := hear(); len(n.Changes) != 0 || n.Omitted {
			t.Errorf("heard %+v", n)
		}
	})
	for _, c := range []struct {
		principals int
		changes    int
		omitted    bool
	}{{80, 80, false}, {150, 0, true}, {500, 0, true}, {store.MaxGrantChanges + 1, 1, false}} {
		indexes := make([]store.Index, c.principals)
		for i := range indexes {
			indexes[i] = store.Index{0xff, byte(i >> 8), byte(i)}
		}
		touch(t, st, by, tenant, indexes)
		if n := hear(); len(n.Changes) != c.changes || n.Omitted != c.omitted {
			t.Errorf("%d principals: heard %d changes, omitted %v; want %d, %v", c.principals, len(n.Changes), n.Omitted, c.changes, c.omitted)
		}
	}
}

// Listening is not done by those who never wait: a command line tool and an
// admin process hold no connection for it.
func TestOnlyWhoWaitsListens(t *testing.T) {
	url := migrated(t)
	st := openTest(t, url)
	listeners := func() (n int) {
		t.Helper()
		err := connect(t, url).QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	putRole(t, st, "editor")
	if n := listeners(); n != 0 {
		t.Errorf("%d listeners before the first Wait", n)
	}
	waiter(t, st)
	if n := listeners(); n != 1 {
		t.Errorf("%d listeners after it", n)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "Close ends the listener", func() bool { return listeners() == 0 })
	if err := st.Wait(t.Context()); err == nil || strings.Contains(err.Error(), pgx.ErrNoRows.Error()) {
		t.Errorf("Wait on a closed store: %v", err)
	}
}
