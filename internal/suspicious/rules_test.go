package suspicious

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"portcullis/internal/store"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

const acme = store.TenantID(7)

// written is a row as the stores write it.
func written(t *testing.T, w store.Written) store.AuditEntry {
	t.Helper()
	e, err := w.Entry(store.Actor{Name: "client:ci", Tenant: acme}, noon, 1)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// read gives rows ids and has them judged.
func read(t *testing.T, cfg Config, tenant store.TenantID, rows ...store.AuditEntry) Report {
	t.Helper()
	d, err := New(tenant, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if rows[i].ID == 0 {
			rows[i].ID = int64(i + 1)
		}
		d.Add(&rows[i])
	}
	return d.Report()
}

func ids(r Report) []string {
	list := []string{}
	for _, f := range r.Findings {
		list = append(list, f.Rule)
	}
	slices.Sort(list)
	return list
}

func TestOneRowIsEnough(t *testing.T) {
	expires := noon.Add(time.Hour)
	grant := func(action store.Action, resource string) store.Written {
		return store.Written{Outcome: store.OutcomeDone, Tenant: acme, Action: action, Resource: resource, User: "amy", After: store.LinkState{Present: true}}
	}
	permission := func(name string) store.Written {
		return grant(store.ActionAddPermission, store.PermissionResource("editor", name))
	}
	member := func(role string) store.Written {
		w := grant(store.ActionAddMembership, store.MembershipResource(role))
		w.After = store.MembershipState{}
		return w
	}
	as := func(o store.Outcome, w store.Written) store.Written { w.Outcome = o; return w }
	client := func(scopes ...store.Scope) store.Written {
		return holding(grant(store.ActionCreateClientKey, store.ClientKeyResource("robot")), store.ClientKeyState{Scopes: scopes})
	}
	userKey := func(state store.UserKeyState) store.Written {
		return holding(grant(store.ActionCreateUserKey, store.UserKeyResource("5f1c")), state)
	}
	role := store.Written{Outcome: store.OutcomeDone, Tenant: acme, Action: store.ActionDeleteRole, Resource: store.RoleResource("editor"),
		Before: store.RoleState{Permissions: []string{"edit_content"}, Members: 3}}
	started := store.ChainState{Holder: "AUTH_AUDIT_KEY", Key: "01"}
	rewrapped := store.ChainState{Holder: "AUTH_AUDIT_KEY", Key: "02"}
	rotation := func(resource, kind, step string) store.Written {
		return store.Written{Outcome: store.OutcomeDone, Action: store.ActionRotateEncryption, Resource: resource, Details: map[string]any{"kind": kind, "step": step}}
	}
	withdrawn := func(resource string, expires time.Time) store.Written {
		return store.Written{Outcome: store.OutcomeDone, Action: store.ActionWithdrawSigning, Resource: store.SigningResource(resource),
			Before: map[string]store.SigningState{"k1": {Algorithm: "EdDSA", Expires: store.AuditTime(expires)}}}
	}
	signing := func(action store.Action) store.Written {
		return store.Written{Outcome: store.OutcomeDone, Action: action, Resource: store.SigningResource("k1"), After: store.SigningState{Algorithm: "EdDSA"}}
	}
	for _, c := range []struct {
		rule  string
		fires []store.Written
		quiet []store.Written
		what  string // of the first that fires
	}{
		{
			rule:  WidePermission,
			fires: []store.Written{permission("*"), permission("posts:*"), permission("posts_*"), permission("admin"), permission("manage_users"), permission("admin_access"), permission("read.All"), permission("manageUsers"), permission("SUPERUSER"), permission("root2")},
			quiet: []store.Written{permission("edit_content"), permission("administer"), permission("management_report"), permission("call_center"), permission("install"), permission("uproot"), permission("supervise"),
				as(store.OutcomeUnchanged, permission("admin")), as(store.OutcomeMissing, permission("admin")),
				grant(store.ActionRemovePermission, store.PermissionResource("editor", "admin")), grant(store.ActionAddPermission, store.PermissionResource("admin", "edit_content"))},
			what: `permission "*" was granted to role "editor"`,
		},
		{
			rule:  WideRole,
			fires: []store.Written{member("admin"), member("all-access"), grant(store.ActionAddParent, store.ParentResource("editor", "admin"))},
			quiet: []store.Written{member("editor"), as(store.OutcomeUnchanged, member("admin")), grant(store.ActionAddParent, store.ParentResource("admin", "editor")),
				grant(store.ActionRemoveMembership, store.MembershipResource("admin"))},
			what: `"amy" was made a member of role "admin"`,
		},
		{
			rule:  RoleDeleted,
			fires: []store.Written{role},
			quiet: []store.Written{as(store.OutcomeMissing, role), grant(store.ActionRemovePermission, store.PermissionResource("editor", "edit_content"))},
			what:  `role "editor" was deleted, with 1 permission and 3 members`,
		},
		{
			rule:  PowerfulKey,
			fires: []store.Written{client(store.ScopeCheck, store.ScopeOperator, store.ScopeTokens), client(store.ScopeTokens)},
			quiet: []store.Written{client(store.DefaultScopes()...), as(store.OutcomeUnchanged, client(store.ScopeOperator)),
				// Another secret of a client that has the scope already.
				holding(grant(store.ActionRotateKey, store.ClientKeyResource("robot")), store.ClientKeyState{Scopes: []store.Scope{store.ScopeOperator}})},
			what: `client key "robot" was made with scope operator and tokens`,
		},
		{
			rule:  EndlessKey,
			fires: []store.Written{userKey(store.UserKeyState{Prefix: "rak_", Label: "laptop"})},
			quiet: []store.Written{userKey(store.UserKeyState{Expires: &expires}), holding(grant(store.ActionRevokeUserKey, store.UserKeyResource("5f1c")), store.UserKeyState{})},
			what:  `an API key of user "amy" was made that never expires`,
		},
		{
			rule:  AuditOff,
			fires: []store.Written{*store.AuditSet(true, false), *store.AuditSet(false, true)},
			quiet: []store.Written{*store.AuditSet(true, true), *store.AuditSet(false, false)},
			what:  "the recording of the audit was turned off",
		},
		{
			rule:  AuditPruned,
			fires: []store.Written{*store.AuditPruned(acme, store.PruneState{Rows: 12, Before: noon.Add(-time.Hour)})},
			quiet: []store.Written{*store.AuditPruned(acme, store.PruneState{Before: noon})},
			what:  "the audit lost 12 rows from before 2026-03-04T11:00:00Z",
		},
		{
			rule:  AuditChain,
			fires: []store.Written{*store.ChainWritten(nil, started), *store.ChainWritten(&started, rewrapped)},
			quiet: []store.Written{*store.ChainWritten(&started, started)},
			what:  "a chain of the audit was begun",
		},
		{
			rule:  EncryptionOff,
			fires: []store.Written{rotation(store.EncryptionResource, "disable", "finish"), rotation(store.EncryptionResource, "disable", "begin")},
			quiet: []store.Written{rotation(store.EncryptionResource, "deep", "finish"), rotation(store.EncryptionResource, "enable", "begin"),
				rotation(store.TenantEncryptionResource(acme), "disable", "finish"), as(store.OutcomeUnchanged, rotation(store.EncryptionResource, "disable", "begin"))},
			what: "the encryption of fields is off: all of them are in clear",
		},
		{
			rule: SigningKey,
			fires: []store.Written{signing(store.ActionPublishSigning), signing(store.ActionSignWith), withdrawn("k1", time.Time{}), withdrawn("k1", noon.Add(-time.Hour)),
				// Under the name of the upkeep, but with a key that had not expired.
				withdrawn("expired", time.Time{}), withdrawn("expired", expires)},
			quiet: []store.Written{as(store.OutcomeUnchanged, signing(store.ActionPublishSigning)), as(store.OutcomeUnchanged, signing(store.ActionSignWith)), withdrawn("expired", noon)},
			what:  `signing key "k1" was published`,
		},
	} {
		t.Run(c.rule, func(t *testing.T) {
			for i, w := range c.fires {
				e := written(t, w)
				r := read(t, Config{}, e.Tenant, e)
				if got := ids(r); !slices.Equal(got, []string{c.rule}) || r.Unread != 0 {
					t.Errorf("%s %s: found %v (%d unread), want %s alone", e.Action, e.Resource, got, r.Unread, c.rule)
					continue
				}
				f := r.Findings[0]
				if i == 0 && f.What != c.what {
					t.Errorf("says %q, want %q", f.What, c.what)
				}
				if f.Tenant != e.Tenant || f.Actor != "client:ci" || !f.First.Equal(noon) || !f.Last.Equal(noon) || f.Count != 1 || !slices.Equal(f.Rows, []int64{1}) || f.RowCount != 1 {
					t.Errorf("%+v is not about the row", f)
				}
			}
			for _, w := range c.quiet {
				e := written(t, w)
				if r := read(t, Config{Rules: []string{c.rule}}, e.Tenant, e); len(r.Findings) != 0 || r.Unread != 0 {
					t.Errorf("%s %s %s: found %v (%d unread), want nothing", e.Action, e.Resource, e.Outcome, ids(r), r.Unread)
				}
			}
		})
	}
}

// holding is the write with what is there after it.
func holding(w store.Written, after any) store.Written { w.After = after; return w }

// An operator of another tenant is not the client of the same name here.
func TestTheActorOfAnotherTenantIsNamed(t *testing.T) {
	w := store.Written{Outcome: store.OutcomeDone, Tenant: 9, Action: store.ActionDeleteRole, Resource: store.RoleResource("editor")}
	r := read(t, Config{}, 9, written(t, w))
	if len(r.Findings) != 1 || r.Findings[0].ActorTenant != acme || r.Findings[0].Tenant != 9 {
		t.Errorf("found %+v, want a finding of tenant 9 by an actor of tenant %d", r.Findings, acme)
	}
}

// What a row does not say in our form is counted, not guessed.
func TestRowsThatSayNothingAreCounted(t *testing.T) {
	for _, e := range []store.AuditEntry{
		{Action: store.ActionAddPermission, Outcome: "done", Resource: "admin"},
		{Action: store.ActionAddMembership, Outcome: "done", Resource: "admin"},
		{Action: store.ActionAddParent, Outcome: "done", Resource: "parent/admin"},
		{Action: store.ActionCreateClientKey, Outcome: "done"},
		{Action: store.ActionCreateClientKey, Outcome: "done", After: `{"scopes":"operator"}`},
		{Action: store.ActionCreateUserKey, Outcome: "done", After: `{"label":"no word of an expiry"}`},
		{Action: store.ActionCreateUserKey, Outcome: "done", After: `{"expires":null`},
		{Action: store.ActionAuthFailed, Outcome: "denied", Address: "203.0.113.9"},
		{Action: store.ActionAuthFailed, Outcome: "denied", Address: "203.0.113.9", Details: `{"count":-5000}`},
		{Action: store.ActionAuthFailed, Outcome: "denied", Address: "203.0.113.9", Details: `{"count":1e400}`},
		{Action: store.ActionRotateEncryption, Outcome: "done", Resource: store.EncryptionResource, Details: `[]`},
	} {
		if r := read(t, Config{}, 0, e); len(r.Findings) != 0 || r.Unread != 1 || r.Rows != 1 {
			t.Errorf("%s %q %q: found %v, %d unread", e.Action, e.After, e.Details, ids(r), r.Unread)
		}
	}
	// What happened is told where only its details are odd.
	for action, rule := range map[store.Action]string{store.ActionPruneAudit: AuditPruned, store.ActionRewrapChain: AuditChain, store.ActionDeleteRole: RoleDeleted, store.ActionSignWith: SigningKey} {
		e := store.AuditEntry{Action: action, Outcome: "done", Resource: "odd", Before: "{", After: "{", Details: "{"}
		if r := read(t, Config{}, 0, e); !slices.Equal(ids(r), []string{rule}) || r.Unread != 1 {
			t.Errorf("%s: found %v, %d unread", action, ids(r), r.Unread)
		}
	}
}

// A row that does not open is found, and judged by what is in clear.
func TestRowsThatDoNotOpen(t *testing.T) {
	d, err := New(acme, Config{})
	if err != nil {
		t.Fatal(err)
	}
	d.AddUnreadable(&store.AuditEntry{ID: 4, Tenant: acme, Actor: "cli", Action: store.ActionDeleteRole, Outcome: "done", Resource: "role"})
	d.AddUnreadable(&store.AuditEntry{ID: 5, Tenant: acme, Actor: "cli", Action: store.ActionAddPermission, Outcome: "done", Resource: "permission"})
	d.AddUnreadable(&store.AuditEntry{ID: 6, Tenant: 8, Action: store.ActionDeleteRole, Outcome: "done", Resource: "role"})
	r := d.Report()
	if !slices.Equal(ids(r), []string{RoleDeleted, UnreadableRow, UnreadableRow}) || r.Rows != 2 || r.Unread != 2 {
		t.Fatalf("found %v in %d rows, %d unread", ids(r), r.Rows, r.Unread)
	}
	if f := r.Findings[0]; f.What != "a role was deleted" {
		t.Errorf("says %q", f.What)
	}
	if d, err = New(acme, Config{Rules: []string{RoleDeleted}}); err != nil {
		t.Fatal(err)
	}
	d.AddUnreadable(&store.AuditEntry{ID: 5, Tenant: acme, Action: store.ActionAddPermission, Outcome: "done", Resource: "permission"})
	if r := d.Report(); len(r.Findings) != 0 {
		t.Errorf("found %v, and it was not asked for", ids(r))
	}
}

// A name cannot pass for the rest of a sentence.
func TestNamesInSentences(t *testing.T) {
	hostile := "admin\" was not granted\n\x1b[2J" + strings.Repeat("x", 5000)
	e := store.AuditEntry{Action: store.ActionAddPermission, Outcome: "done", Resource: store.PermissionResource("editor", hostile)}
	r := read(t, Config{}, 0, e)
	if len(r.Findings) != 1 {
		t.Fatalf("found %v", ids(r))
	}
	if what := r.Findings[0].What; len(what) > 2*maxQuoted || strings.ContainsAny(what, "\n\x1b") || !strings.HasPrefix(what, `permission "admin\" was not granted\n\x1b[2Jxxx`) {
		t.Errorf("says %q", what)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	var rows []store.AuditEntry
	for i := range 30 {
		rows = append(rows, store.AuditEntry{Time: noon.Add(time.Duration(i) * time.Hour), Action: store.ActionDeleteRole, Outcome: "done", Resource: fmt.Sprintf("role/r%d", i)})
	}
	r := read(t, Config{MaxFindings: 10}, 0, rows...)
	if len(r.Findings) != 10 || r.More[RoleDeleted] != 20 || r.Rows != 30 {
		t.Errorf("%d findings and %v more of %d rows, want 10 and 20 of 30", len(r.Findings), r.More, r.Rows)
	}
	if !r.Findings[0].Last.After(r.Findings[9].Last) {
		t.Error("the latest is not the first")
	}
}

func TestBurstsAreBounded(t *testing.T) {
	var rows []store.AuditEntry
	for i := range 25 {
		rows = append(rows, failed(fmt.Sprintf("10.0.0.%d", i), noon.Add(time.Duration(i)*time.Hour), 20))
	}
	r := read(t, Config{MaxFindings: 10}, 0, rows...)
	if len(r.Findings) != 10 || r.More[AddressFailures] != 15 || !strings.Contains(r.Findings[0].What, "10.0.0.24:") {
		t.Errorf("%d findings and %v more, want the latest 10 and 15", len(r.Findings), r.More)
	}
}

func TestRulesAreChosen(t *testing.T) {
	rows := []store.AuditEntry{
		{Action: store.ActionDeleteRole, Outcome: "done", Resource: "role/editor"},
		{Action: store.ActionAuditOff, Outcome: "done", Resource: "audit"},
		{Action: store.ActionAuditOff, Outcome: "done", Resource: "audit", Tenant: acme},
	}
	if got := ids(read(t, Config{Rules: []string{AuditOff}}, 0, rows...)); !slices.Equal(got, []string{AuditOff}) {
		t.Errorf("found %v", got)
	}
	if got := ids(read(t, Config{}, 0, rows...)); !slices.Equal(got, []string{AuditOff, RoleDeleted}) {
		t.Errorf("found %v: want both of tenant 0, and nothing of another", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]Config{
		`rules: there is no rule "nosuch"`: {Rules: []string{"nosuch"}},
		"Removals: ":                       {Removals: Threshold{20, 90 * time.Second}},
		"AddressFailures: ":                {AddressFailures: Threshold{0, time.Minute}},
		"AllFailures: ":                    {AllFailures: Threshold{1, 25 * time.Hour}},
		"Refusals: ":                       {Refusals: Threshold{-1, time.Minute}},
		"MaxRows: ":                        {MaxRows: 1001},
		"MaxFindings: ":                    {MaxFindings: -1},
		"MaxCounts: ":                      {MaxCounts: 999},
	} {
		if _, err := New(0, cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", cfg, err, want)
		}
	}
}
