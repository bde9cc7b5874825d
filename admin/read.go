package admin

import (
	"net/url"
	"strconv"
)

// The windows of listings.
const (
	defaultLimit = 50
	maxLimit     = 500
	maxOffset    = 1<<31 - 1
)

type roleRow struct {
	Role        string `json:"role"`
	Description string `json:"description"`
}

func (a *API) listRoles(c *call) (reply, error) {
	roles, err := a.cfg.Store.RoleList(c.Context(), c.key.Tenant)
	if err != nil {
		return reply{}, err
	}
	rows := make([]roleRow, 0, len(roles))
	for _, r := range roles {
		rows = append(rows, roleRow{Role: r.Name, Description: r.Description})
	}
	rows, err = page(c, rows)
	if err != nil {
		return reply{}, err
	}
	return reply{value: rows}, a.recordRead(c, "", "roles")
}

func intValue(q url.Values, name string, unset, least, most int) (int, error) {
	text, given, err := oneValue(q, name)
	if err != nil || !given {
		return unset, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, badRequest("Invalid " + name + ": " + echo(text) + ". Must be an integer from " +
			strconv.Itoa(least) + " to " + strconv.Itoa(most) + ".")
	}
	return n, nil
}

// orNull is nil, which JSON shows as null, for the empty string.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
