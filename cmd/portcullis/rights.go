package main

import (
	"context"

	"portcullis/internal/store"
	"portcullis/internal/store/postgres"
)

// mustHaveRights stops the start of a serving process whose database user lacks
// what it will need: else it would find out in the middle of its work.
func mustHaveRights(ctx context.Context, st store.Store, is halves) error {
	pg, ok := st.(*postgres.Store)
	if !ok {
		return nil
	}
	lacked, err := pg.LackedRights(ctx, is.admin)
	if err != nil {
		return usageUnlessAway(err)
	}
	if len(lacked) == 0 {
		return nil
	}
	kind := "sidecars need a user in the sidecar role"
	if is.admin {
		kind = "admin processes need a user in the admin role"
	}
	return usagef("the database user has no %s%s: %s that portcullis migrate keeps (see `portcullis migrate --print-roles`)", lacked[0], andMore(len(lacked)-1), kind)
}

func andMore(n int) string {
	if n == 0 {
		return ""
	}
	return ", and lacks " + count(n, "right") + " more"
}
