package admin

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
)

// sorted orders rows by user, then role.
func sorted(rows []memberRow) []memberRow {
	slices.SortFunc(rows, func(a, b memberRow) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Role, b.Role))
	})
	return rows
}

// named makes rows of permissions' names; never nil, which JSON shows as null.
func named(names []string) []permissionName {
	rows := make([]permissionName, 0, len(names))
	for _, name := range names {
		rows = append(rows, permissionName{name})
	}
	return rows
}

// page is the part of the rows that the query's limit and offset ask for.
func page[R any](c *call, rows []R) ([]R, error) {
	from, to, err := c.window(len(rows))
	if err != nil {
		return nil, err
	}
	return rows[from:to], nil
}

// window reads the query's limit and offset for a listing of n rows, and returns
// which of them to show: all, unless the caller asks for a page.
func (c *call) window(n int) (from, to int, err error) {
	q, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return 0, 0, badRequest("Invalid query string.")
	}
	limit, err := intValue(q, "limit", n, 1, maxOffset)
	if err != nil {
		return 0, 0, err
	}
	offset, err := intValue(q, "offset", 0, 0, maxOffset)
	if err != nil {
		return 0, 0, err
	}
	from = min(offset, n)
	c.out.Set("X-Total-Count", strconv.Itoa(n))
	return from, from + min(limit, n-from), nil
}
