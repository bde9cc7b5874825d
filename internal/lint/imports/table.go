package main

// direction says what the packages at one place may import outside of their
// tests. A place is a path inside the module; "x/..." is x and all beneath it,
// and a package belongs to the longest place that holds it.
type direction struct {
	place string
	// house lists the places of this module that it may import.
	house []string
	// libraries lists prefixes of other modules' import paths; anyLibrary allows
	// all but databases.
	libraries []string
}

const anyLibrary = "*"

// databases are the libraries and packages that speak to a database. Only the
// places of database may import them.
var databases = []string{"database/sql", "github.com/jackc/pgx", "github.com/pressly/goose", "modernc.org/sqlite"}

var database = []string{"internal/store/postgres/...", "internal/store/sqlite/...", "internal/authdata", "internal/testkit/...", "cmd/..."}

// directions are the house as docs/ARCHITECTURE.md draws it. A package that is
// in no row is refused: say where it stands before it grows.
var directions = []direction{
	{place: "policy", libraries: []string{"go.yaml.in/yaml", "cel.dev/"}},
	{place: "internal/chain"},
	{place: "internal/store", house: []string{"internal/chain", "policy"}},
	{place: "internal/sealing", libraries: []string{"github.com/fernet/fernet-go"}},
	{place: "internal/store/postgres/...", house: []string{"internal/chain", "internal/sealing", "internal/store", "policy"}, libraries: []string{"github.com/jackc/pgx", "github.com/pressly/goose", "github.com/prometheus", "golang.org/x"}},
	{place: "internal/store/sqlite/...", house: []string{"internal/chain", "internal/sealing", "internal/store", "policy"}, libraries: []string{"modernc.org/sqlite", "github.com/pressly/goose", "github.com/prometheus", "golang.org/x"}},
	{place: "internal/store/storetest", house: []string{"internal/chain", "internal/sealing", "internal/store", "policy"}, libraries: []string{"pgregory.net/rapid"}},
	{place: "internal/identity", house: []string{"policy"}, libraries: []string{"github.com/golang-jwt/jwt", "github.com/MicahParks/jwkset", "github.com/prometheus", "golang.org/x"}},
	{place: "internal/decisionlog", house: []string{"policy"}, libraries: []string{"github.com/prometheus"}},
	{place: "internal/policyfile", house: []string{"policy"}, libraries: []string{"github.com/fsnotify/fsnotify", "github.com/prometheus"}},
	{place: "internal/authdata", libraries: []string{"github.com/jackc/pgx", "modernc.org/sqlite"}},
	{place: "internal/certfiles", libraries: []string{"github.com/prometheus"}},
	{place: "internal/clientaddr"},
	{place: "internal/input"},
	{place: "internal/ratelimit"},
	{place: "internal/duration"},
	{place: "internal/auditfilter", house: []string{"internal/duration", "internal/store"}},
	{place: "internal/authimport", house: []string{"internal/authdata", "internal/identity", "internal/store"}},
	{place: "internal/tuning"},
	{place: "internal/rotation", house: []string{"internal/store"}},
	{place: "internal/suspicious", house: []string{"internal/store"}},
	{place: "internal/config", house: []string{"internal/clientaddr", "internal/decisionlog", "internal/identity", "internal/ratelimit", "internal/sealing", "internal/store", "policy"}, libraries: []string{anyLibrary}},
	{place: "cache", house: []string{"internal/store", "internal/identity", "policy"}, libraries: []string{"github.com/dgraph-io/ristretto", "github.com/prometheus", "golang.org/x"}},
	{place: "extauthz", house: []string{"cache", "internal/certfiles", "internal/decisionlog", "internal/identity", "policy"}, libraries: []string{"github.com/envoyproxy/go-control-plane", "google.golang.org", "github.com/prometheus", "golang.org/x"}},
	{place: "admin", house: []string{"cache", "internal/auditfilter", "internal/certfiles", "internal/clientaddr", "internal/input", "internal/ratelimit", "internal/store", "internal/identity", "policy"}, libraries: []string{anyLibrary}},
	{place: "envoy", house: []string{"policy"}, libraries: []string{"github.com/envoyproxy/go-control-plane", "google.golang.org", "go.yaml.in/yaml"}},
	{place: "cmd/...", house: []string{"..."}, libraries: []string{anyLibrary}},

	// What serves the house and is not part of it.
	{place: "internal/testkit/transcript", house: []string{"internal/identity", "internal/store"}, libraries: []string{anyLibrary}},
	{place: "internal/testkit/...", house: []string{"internal/testkit"}, libraries: []string{anyLibrary}},
	{place: "internal/readme"},
	{place: "internal/demo/...", house: []string{"..."}, libraries: []string{anyLibrary}},
	{place: "internal/bench/...", house: []string{"..."}, libraries: []string{anyLibrary}},
	{place: "internal/e2e/...", house: []string{"..."}, libraries: []string{anyLibrary}},
	{place: "internal/lint/...", libraries: []string{}},
}
