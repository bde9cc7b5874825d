package main

// tooling are the places that only tests, measurements and checks use.
var tooling = []string{"internal/testkit", "internal/store/storetest", "internal/bench", "internal/demo", "internal/e2e", "internal/lint"}

// exception is a text of SQL, or a part of one, that is no constant.
type exception struct {
	function string // the declaration that holds it, without the module's name
	text     string // the expression, as Go prints it
	reason   string
}

// allowed is the whole list. A row that nothing uses is an error.
var allowed = []exception{
	// The roles of `portcullis migrate`: statements about roles and rights take no
	// parameters in Postgres.
	{"internal/store/postgres.adjust", "granted", "GRANT of the rights in privilegeTable; names that come from the catalog are quoted by pgx"},
	{"internal/store/postgres.adjust", "revoked", "REVOKE of rights that the catalog lists; names that come from it are quoted by pgx"},
	{"internal/store/postgres.ensureRole", "pgx.Identifier{…}.Sanitize()", "CREATE ROLE of a name that the operator chose and roleName admits, quoted by pgx"},

	// `portcullis import auth` reads another program's tables, in a read transaction.
	{"(*internal/authdata.postgresDB).table", "pgx.Identifier{…}.Sanitize()", "the schema that was found in the catalog, quoted by pgx, and a constant name"},
	{"internal/authdata.notFalse", "no", "the constant words of booleans(), which returns two lists of them"},
}
