package main

import (
	"log/slog"

	"portcullis/internal/config"
	"portcullis/internal/store/postgres"
)

// allowance is what the settings allow of connections to Postgres.
func allowance(cfg *config.Config) postgres.Allowance {
	if cfg.DatabaseInsecure {
		return postgres.AllowPlaintext
	}
	return 0
}

// checkTransport refuses a database URL by which a connection may cross the
// network in clear, unless AUTH_DATABASE_INSECURE allows that, and tells warn of
// what is weak. It connects to nothing. Opening the store refuses such a URL too;
// here the error names the setting.
func checkTransport(cfg *config.Config, warn func(config.Warning)) error {
	if !onPostgres(cfg) {
		return nil
	}
	t, err := postgres.InspectTransport(cfg.DatabaseURL.Reveal())
	if err != nil {
		return usagef("%s: %w", cfg.DatabaseSetting, err)
	}
	if refusal := t.Refusal(); refusal != nil && !cfg.DatabaseInsecure {
		return usagef("%s: %w, or accept plain text with AUTH_DATABASE_INSECURE=true", cfg.DatabaseSetting, refusal)
	}
	for _, text := range t.Warnings() {
		warn(config.Warning{Name: cfg.DatabaseSetting, Text: text})
	}
	return nil
}

// printTransport is checkTransport for a command that does not serve.
func (p *process) printTransport(cfg *config.Config) error {
	return checkTransport(cfg, func(w config.Warning) { printWarnings(p, []config.Warning{w}) })
}

// logTransport is checkTransport for a command that serves.
func logTransport(cfg *config.Config, log *slog.Logger) error {
	return checkTransport(cfg, func(w config.Warning) { log.Warn(w.String()) })
}
