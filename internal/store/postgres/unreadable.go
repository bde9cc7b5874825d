package postgres

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/internal/sealing"
	"portcullis/internal/store"
	"portcullis/policy"
)

// unreadable is a sealing.Error as the contract names it.
type unreadable struct{ err *sealing.Error }

func (u *unreadable) Error() string { return u.err.Error() }

// Unwrap leads to the *sealing.Error.
func (u *unreadable) Unwrap() error { return u.err }

// Is makes every unreadable a store.ErrUnreadable.
func (u *unreadable) Is(target error) bool { return target == store.ErrUnreadable }

// newUnreadableTotal counts from zero for every column, so that the first one
// is a rise that an alert sees.
func newUnreadableTotal() *prometheus.CounterVec {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "portcullis_store_unreadable_total",
		Help: "Sealed values that did not open, by where they lie. The log names the row.",
	}, []string{"table", "column"})
	for _, column := range [][2]string{
		{"memberships", "principal_id"}, {"permissions", "name"}, {"roles", "description"}, {"user_keys", "user_id"},
		{"user_keys", "label"}, {"audit", "sealed"},
		{"deny_list", "principal_id"}, {"refresh_families", "user_id"}, {"encryption_keys", "wrapped"},
	} {
		total.WithLabelValues(column[0], column[1])
	}
	return total
}

// noted counts and logs a value that does not open, and gives its error the
// contract's name. Any other error stays what it is.
func (s *Store) noted(err error) error {
	var e *sealing.Error
	var known *unreadable
	if !errors.As(err, &e) || errors.As(err, &known) {
		return err
	}
	s.unreadable.WithLabelValues(e.Place.Table, e.Place.Column).Inc()
	if s.teller.Tell(e.Place, s.now()) {
		s.log.Error("a sealed value does not open", "table", e.Place.Table, "column", e.Place.Column, "row", e.Place.Row, "key", e.Key, "why", e.Why)
	}
	return &unreadable{e}
}

func isUnreadable(err error) bool { return errors.Is(err, store.ErrUnreadable) }

// open opens a value of a row that names its key by id. place is asked only where
// there is something to open.
func (s *Store) open(keys sealing.Keys, id int64, text string, place func() sealing.Place) (string, error) {
	if id == 0 && keys.Pair.Admits(0) {
		return text, nil
	}
	opened, err := keys.Open(id, place(), text)
	return opened, s.noted(err)
}

// openOrSay is open for the audit of what is taken away: that must be possible
// whether it opens or not.
func (s *Store) openOrSay(keys sealing.Keys, id int64, text string, place func() sealing.Place) string {
	opened, err := s.open(keys, id, text, place)
	if err != nil {
		return store.Unreadable
	}
	return opened
}

// memberRow is a membership as it lies in the database.
type memberRow struct {
	id, keyID int64
	kind      policy.Kind
	principal string // sealed under keyID
	role      policy.RoleID
}

func (m *memberRow) place(tenant store.TenantID) sealing.Place {
	return sealing.MemberID(m.id, int64(tenant), m.kind.String(), int64(m.role))
}

// openMember gives the principal's id.
func (s *Store) openMember(keys sealing.Keys, tenant store.TenantID, m *memberRow) (string, error) {
	return s.open(keys, m.keyID, m.principal, func() sealing.Place { return m.place(tenant) })
}

// mustBe is the error where the row, which was found by an index, is another
// principal's.
func (s *Store) mustBe(keys sealing.Keys, tenant store.TenantID, m *memberRow, kind policy.Kind, id string) error {
	held, err := s.openMember(keys, tenant, m)
	if err == nil && (held != id || m.kind != kind) {
		err = s.noted(&sealing.Error{Place: m.place(tenant), Key: m.keyID, Why: "it is another principal's than its index says: the row was edited by other hands"})
	}
	return err
}

// permissionRow is a permission as it lies in the database.
type permissionRow struct {
	id, keyID int64
	role      policy.RoleID
	name      string // sealed under keyID
}

func (p *permissionRow) place(tenant store.TenantID) sealing.Place {
	return sealing.PermissionName(p.id, int64(tenant), int64(p.role))
}

func (s *Store) openPermission(keys sealing.Keys, tenant store.TenantID, p *permissionRow) (string, error) {
	return s.open(keys, p.keyID, p.name, func() sealing.Place { return p.place(tenant) })
}

// mustName is the error where the row, which was found by an index, is another
// permission.
func (s *Store) mustName(keys sealing.Keys, tenant store.TenantID, p *permissionRow, name string) error {
	held, err := s.openPermission(keys, tenant, p)
	if err == nil && held != name {
		err = s.noted(&sealing.Error{Place: p.place(tenant), Key: p.keyID, Why: "it is another permission than its index says: the row was edited by other hands"})
	}
	return err
}
