package authdata

import (
	"context"
	"fmt"
	"iter"
	"math"
)

// The streams below yield rows by rising cursor, beginning after the one given. A
// row with a *RowError of kind Invalid is whole; with one of another kind it is
// zero. Both let the caller go on. Any other error is the database's, and the last.

// query is one stream's SQL.
type query struct {
	table   string   // whose rows they are, for errors
	columns []column // the first is the id; of links the second is the other id
	from    string   // what follows FROM, up to the end of the conditions
	order   string
	links   bool
}

// before is less than any id of a row.
const before = math.MinInt64

// start is the cursor as parameters: the zero Cursor is before every row.
func (c Cursor) start() (id, sub int64) {
	if c == (Cursor{}) {
		return before, before
	}
	return c.ID, c.Sub
}

// stream runs a query and makes a T of each row. read returns false for a row that
// is no row of the stream.
func stream[T any](ctx context.Context, s *Source, tenant Secret, q query, args []any, read func(f *fields) (T, bool)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		yes, no := s.db.booleans()
		names := make([]string, len(q.columns))
		for i, c := range q.columns {
			names[i] = c.name
		}
		sql := "SELECT " + list(s.db, q.columns) + " FROM " + q.from + " ORDER BY " + q.order
		for values, err := range s.db.rows(ctx, sql, args...) {
			if err != nil {
				yield(zero, fmt.Errorf("read %s: %w", q.table, err))
				return
			}
			f := &fields{creator: tenant.Reveal(), keys: s.keys, yes: yes, no: no, names: names, values: values}
			f.row = place(q, values)
			f.of(f.row.Table, f.row.ID)
			if f.row.Cursor.ID, err = number(values[0]); err == nil && q.links {
				f.row.Cursor.Sub, err = sub(values[1])
			}
			if err != nil {
				yield(zero, fmt.Errorf("read %s: the id of row %s: %w", q.table, f.row.ID, err))
				return
			}
			row, ok := read(f)
			switch {
			case f.err != nil && f.err.Kind != Invalid:
				if !yield(zero, f.err) {
					return
				}
			case !ok: // and then a name of it harms nobody
			case f.err != nil:
				if !yield(row, f.err) {
					return
				}
			default:
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

func place(q query, values []*string) Row {
	row := Row{Table: q.table, ID: shown(values[0])}
	if q.links {
		row.ID += "/" + shown(values[1])
	}
	return row
}

// shown is an id as errors name it.
func shown(v *string) string {
	if v == nil {
		return "NULL"
	}
	return *v
}
