package postgres

import (
	"slices"
	"testing"
)

func TestLackedRights(t *testing.T) {
	db := divide(t)
	lacked := func(url string, admin bool) []string {
		t.Helper()
		st := openTest(t, url)
		list, err := st.LackedRights(t.Context(), admin)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	for name, url := range map[string]string{"owner": db.owner, "admin": db.admin} {
		if list := lacked(url, true); len(list) > 0 {
			t.Errorf("the %s lacks %q as an admin process", name, list)
		}
	}
	for name, url := range map[string]string{"owner": db.owner, "admin": db.admin, "sidecar": db.sidecar} {
		if list := lacked(url, false); len(list) > 0 {
			t.Errorf("the %s lacks %q as a sidecar", name, list)
		}
	}
	list := lacked(db.sidecar, true)
	for _, want := range []string{
		"UPDATE on portcullis.revision", "SELECT on portcullis.audit", "USAGE on portcullis.role_ids",
		"EXECUTE on portcullis.ensure_audit_partitions(date, integer)",
	} {
		if !slices.Contains(list, want) {
			t.Errorf("as an admin process the sidecar's user lacks %q, and %q is not there", list, want)
		}
	}
	execSQL(t, db.owner, `REVOKE SELECT ON portcullis.user_keys FROM portcullis_sidecar`)
	if list := lacked(db.sidecar, false); !slices.Equal(list, []string{"SELECT on portcullis.user_keys"}) {
		t.Errorf("lacked %q", list)
	}
}
