package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"portcullis/admin"
	"portcullis/cache"
	"portcullis/extauthz"
	"portcullis/internal/config"
	"portcullis/internal/decisionlog"
	"portcullis/internal/identity"
	"portcullis/internal/policyfile"
	"portcullis/internal/store"
	"portcullis/internal/tuning"
)

// halves says which halves of the product a process is.
type halves struct {
	gate  bool // answers Envoy
	admin bool // the admin API, and the store's upkeep
}

// How long the parts may take to finish what they have in hand. With the drain
// delay they stay below the 30 s that Kubernetes gives.
const (
	gateGrace  = 5 * time.Second
	adminGrace = 20 * time.Second
)

// app is a serving process: what it has opened, and the order in which it ends.
type app struct {
	is       halves
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry

	tuner     *tuning.Tuner
	store     store.Store
	policy    *policyfile.File // nil without a policy file
	decisions *decisionlog.Log // nil without a gate
	verifiers *identity.Verifiers
	cache     *cache.Cache
	readiness *readiness
	gate      *extauthz.Server // nil without a gate
	api       *admin.API       // nil without an admin API
	admin     *admin.Server    // nil as well
	ops       *opsServer
}

// openApp opens everything that can fail, so that what is wrong with it stops
// the start. Where it fails, nothing stays open.
func openApp(ctx context.Context, p *process, cfg *config.Config, log *slog.Logger, is halves) (_ *app, err error) {
	a := &app{is: is, cfg: cfg, log: log, registry: newRegistry()}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	a.tuner = tuning.Apply(tuning.Config{
		Lookup: p.lookupEnv, CacheMemory: cfg.CacheMemory,
		Ceiling: tuning.ContainerLimit(os.DirFS("/")), Logger: log,
	})
	if a.store, err = a.openStore(ctx); err != nil {
		return nil, err
	}
	if err := mustHaveRights(ctx, a.store, is); err != nil {
		return nil, err
	}
	if pool, ok := a.store.(interface{ Collector() prometheus.Collector }); ok {
		a.registry.MustRegister(pool.Collector())
	}
	if err := a.settleEncryption(ctx); err != nil {
		return nil, err
	}
	if is.admin {
		if err := a.settleAudit(ctx); err != nil {
			return nil, err
		}
		if err := registerEnvKey(ctx, a.store, cfg, log); err != nil {
			return nil, err
		}
	}
	var issuer *identity.Issuer
	if is.admin { // before the cache loads: what verifies is in the store alone
		if issuer, err = openIssuer(ctx, a.store, cfg, log); err != nil {
			return nil, err
		}
	} else if len(cfg.JWTPrivateKeys) > 0 {
		log.Warn("AUTH_JWT_PRIVATE_KEY is not used here: a sidecar verifies with the public keys in the store; take the private ones off this host")
	}
	if a.cache, err = a.newCache(); err != nil {
		return nil, err
	}
	a.readiness = &readiness{cache: a.cache}
	if is.gate {
		if err := a.openGate(p); err != nil {
			return nil, err
		}
	}
	if a.ops, err = newOpsServer(cfg.MetricsListen, a.registry, a.readiness, log, cfg.DebugMode); err != nil {
		return nil, err
	}
	if is.admin { // last: its server closes only by having run
		if err := a.openAdmin(issuer); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *app) openStore(ctx context.Context) (store.Store, error) {
	if err := logTransport(a.cfg, a.log); err != nil {
		return nil, err
	}
	if !a.is.admin {
		return openReader(ctx, a.cfg, a.log)
	}
	return openStore(ctx, a.cfg, a.log)
}

// run serves until ctx ends or a part fails, then drains and closes everything.
func (a *app) run(ctx context.Context) error {
	failed := make(chan error, 1)
	watch, record, work, front := newStage(failed), newStage(failed), newStage(failed), newStage(failed)

	watch.run("metrics", a.ops.Run)
	watch.run("memory tuning", a.tuner.Run)
	if a.decisions != nil {
		record.run("decision log", a.decisions.Run)
	}
	work.run("cache", a.cache.Run)
	work.run("issuers", a.verifiers.Run)
	if a.policy != nil {
		work.run("policy file", a.policy.Run)
	}
	if a.is.admin {
		work.run("upkeep", (&upkeep{store: a.store, log: a.log}).Run)
		record.run("audit checkpoints", (&checkpoints{store: a.store, log: a.log, on: a.cfg.AuditLogging}).Run)
	}
	if a.gate != nil {
		front.run("gate", a.gate.Run)
	}
	if a.admin != nil {
		work.run("failed authentications", a.api.Run)
		front.run("admin API", func(ctx context.Context) error {
			return a.admin.Run(later(ctx, a.cfg.DrainDelay))
		})
	}
	a.logListeners()

	var err error
	select {
	case <-ctx.Done():
		a.log.Info("draining", "delay", a.cfg.DrainDelay.String())
	case err = <-failed:
		a.log.Error("stopping", "error", err)
	}
	// Readiness first, then the requests in hand, then what they leave behind: the
	// last-used times and the word that this sidecar stopped, the last decisions.
	a.readiness.drain()
	front.end()
	work.end()
	record.end()
	watch.end()
	if err != nil {
		err = &failure{code: exitUnavailable, err: err}
	}
	err = errors.Join(err, a.close())
	a.log.Info("stopped")
	return err
}

// later is a context that ends so long after ctx does.
func later(ctx context.Context, d time.Duration) context.Context {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return out
}

// close closes what is open, in the reverse order of its opening. The parts must
// have ended, or never begun.
func (a *app) close() error {
	var errs []error
	if a.ops != nil {
		errs = append(errs, a.ops.close())
	}
	if a.gate != nil {
		errs = append(errs, a.gate.Close())
	}
	if a.cache != nil {
		a.cache.Close()
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	return errors.Join(errs...)
}

// logListeners says where the process answers, one line for each address.
func (a *app) logListeners() {
	if a.gate != nil {
		for _, addr := range a.gate.Addrs() {
			a.log.Info("listening", "listener", "extauthz", "addr", showAddr(addr))
		}
	}
	if a.admin != nil {
		a.log.Info("listening", "listener", "admin", "addr", showAddr(a.admin.Addr()))
	}
	for _, addr := range a.ops.addrs() {
		a.log.Info("listening", "listener", "metrics", "addr", showAddr(addr))
	}
}
