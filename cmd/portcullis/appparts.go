package main

import (
	"fmt"
	"net"
	"slices"
	"time"

	"portcullis/admin"
	"portcullis/cache"
	"portcullis/extauthz"
	"portcullis/internal/config"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/internal/policyfile"
	"portcullis/internal/ratelimit"
	"portcullis/internal/sealing"
	"portcullis/policy"
)

// newVerifiers verifies tokens as the settings say, our own asymmetric ones with the
// given keys, those of outside issuers not before Apply names them. It takes the zero
// fields of more as they stand.
func newVerifiers(cfg *config.Config, keys *identity.OwnKeys, more identity.VerifiersConfig) (*identity.Verifiers, error) {
	own, err := identity.NewVerifier(identity.VerifierConfig{
		Secret: []byte(cfg.JWTSecretKey.Reveal()), Algorithm: cfg.JWTAlgorithm, Keys: keys,
		Issuer: cfg.JWTIssuer, Audience: cfg.JWTAudience,
	})
	if err != nil {
		return nil, fmt.Errorf("AUTH_JWT_SECRET_KEY: %w", err)
	}
	more.Own = own
	return identity.NewVerifiers(more)
}

func (a *app) newCache() (_ *cache.Cache, err error) {
	cfg := a.cfg
	keys := &identity.OwnKeys{} // which the cache fills from the store
	if a.verifiers, err = newVerifiers(cfg, keys, identity.VerifiersConfig{Registerer: a.registry, Logger: a.log}); err != nil {
		return nil, err
	}
	settings := cache.Config{
		Store: a.store, Feed: a.store, Verifier: a.verifiers, Keys: keys,
		MaxStaleness: cfg.MaxStaleness, Memory: cfg.CacheMemory,
		Masters:    masterIDs(cfg.Masters),
		Registerer: a.registry, Logger: a.log,
	}
	if st, ok := a.store.(interface{ MaxReads() int }); ok {
		// A load that has its turn must not wait for a connection: it would come out as
		// a fault and not as shed. One connection is the feed's.
		settings.MaxLoads = max(1, st.MaxReads()-1)
	}
	if a.is.gate {
		settings.Tenants = cfg.Tenants // the admin API alone serves every tenant
	}
	return cache.New(settings)
}

// verifiesOwn reports whether the settings speak of our own tokens. Public keys come
// from the store, at any time.
func verifiesOwn(cfg *config.Config) bool {
	return cfg.JWTSecretKey.IsSet() || slices.Contains(identity.OwnAlgorithms(), cfg.JWTAlgorithm)
}

// noPolicy is said, on one line, by a gate without a policy file.
const noPolicy = `AUTH_POLICY_FILE is not set: every request will be denied; write a policy and name it, as in: ` +
	`echo '{version: 1, rules: [{name: health, path: /healthz, allow: anonymous}]}' > policy.yaml && portcullis serve --policy-file policy.yaml`

func (a *app) openGate(p *process) (err error) {
	cfg := a.cfg
	if cfg.PolicyFile == "" {
		a.log.Warn(noPolicy)
	} else if a.policy, err = policyfile.Open(policyfile.Config{
		Path: cfg.PolicyFile, Logger: a.log, Registerer: a.registry,
		Check: func(p *policy.Policy) error { return a.verifiers.Check(p.Issuers()) },
		Apply: func(p *policy.Policy) {
			a.verifiers.Apply(p.Issuers())
			a.cache.SetPolicy(p)
		},
	}); err != nil {
		return fmt.Errorf("AUTH_POLICY_FILE: %w", err)
	} else {
		a.log.Info("policy loaded", "path", cfg.PolicyFile, "policy", a.policy.Policy().Digest(), "rules", a.policy.Policy().Len())
	}
	if !verifiesOwn(cfg) {
		a.log.Warn("AUTH_JWT_SECRET_KEY is not set: of tokens of our own, those alone are accepted whose public key an admin process has published (AUTH_JWT_PRIVATE_KEY); client keys and the tokens of the policy's issuers work")
	}
	if a.decisions, err = decisionlog.New(decisionlog.Config{
		Mode: cfg.DecisionLog, Rate: cfg.DecisionLogRate, Path: cfg.DecisionLogFile, Writer: p.stdout,
		Registerer: a.registry, Logger: a.log,
	}); err != nil {
		return fmt.Errorf("AUTH_DECISION_LOG_FILE: %w", err)
	}
	core, err := extauthz.New(extauthz.Config{
		Cache:             a.cache,
		ContextExtensions: extauthz.ContextExtensions(cfg.ContextExtensions),
		Faults:            extauthz.Faults(cfg.ExtAuthzFaults),
		Log:               a.decisions, Registerer: a.registry, Logger: a.log,
	})
	if err != nil {
		return err
	}
	a.gate, err = extauthz.NewServer(extauthz.ServerConfig{
		Core: core, Listen: joinListen(cfg.ExtAuthzListen), Insecure: cfg.ExtAuthzInsecure,
		TLS:        extauthz.TLS{CertFile: cfg.ExtAuthzTLS.Cert, KeyFile: cfg.ExtAuthzTLS.Key, ClientCAFile: cfg.ExtAuthzTLS.ClientCA},
		Ready:      func() bool { return a.cache.Snapshot() != nil },
		DrainDelay: cfg.DrainDelay, DrainTimeout: gateGrace, Registerer: a.registry, Logger: a.log,
	})
	return err
}

func (a *app) openAdmin(issuer *identity.Issuer) error {
	api, err := admin.New(admin.Config{
		Store: a.store, Cache: a.cache, Registerer: a.registry, Logger: a.log, AuditChecks: a.cfg.AuditChecks,
		Tokens: admin.Tokens{
			Issuer: issuer, Name: a.cfg.JWTIssuer, Audience: a.cfg.JWTAudience,
			Lifetime: a.cfg.JWTAccessTokenLifetime, RefreshLifetime: a.cfg.JWTRefreshTokenLifetime,
		},
		SealReply: sealing.SealReply, OpenReply: sealing.OpenReply,
		Proxies:     a.cfg.TrustedProxies,
		CORS:        corsOf(a.cfg),
		OpenTenancy: a.cfg.OpenTenancy, StrictUsers: a.cfg.StrictUsersDefault,
		StrictInput: a.cfg.StrictInput,
		Limits:      limitsOf(a.cfg),
	})
	if err != nil {
		return err
	}
	a.api = api
	a.admin, err = admin.NewServer(admin.ServerConfig{
		Handler: api.Handler(), Addr: a.cfg.ServerAddress(), Logger: a.log,
		TLSCert: a.cfg.ServerTLS.Cert, TLSKey: a.cfg.ServerTLS.Key, ClientCA: a.cfg.ServerTLS.ClientCA,
		Proxies: a.cfg.TrustedProxies, Registerer: a.registry, Grace: adminGrace,
	})
	return err
}

// maxUnauthenticated is how many requests without a valid key an address may make on
// the admin API in a minute.
const maxUnauthenticated = 600

// limitsOf is how often the settings let callers ask. Who turns the limit of failures
// off has no limit by address at all: behind a proxy that names no clients everyone
// is one address.
func limitsOf(cfg *config.Config) admin.Limits {
	l := admin.Limits{Reads: cfg.RateLimit, Writes: cfg.RateLimitWrites, Failures: cfg.RateLimitFailures}
	if l.Failures.Limits() {
		l.Unauthenticated = ratelimit.Rate{Count: maxUnauthenticated, Period: time.Minute}
	}
	return l
}

// corsOf is what the settings allow web pages.
func corsOf(cfg *config.Config) admin.CORS {
	if !cfg.CORS.Enabled {
		return admin.CORS{}
	}
	return admin.CORS{Origins: cfg.CORS.Origins, AnyOrigin: cfg.CORS.AnyOrigin}
}

// showAddr is an address as a setting names it.
func showAddr(addr net.Addr) string {
	if addr.Network() == "unix" {
		return "unix://" + addr.String()
	}
	return addr.String()
}
