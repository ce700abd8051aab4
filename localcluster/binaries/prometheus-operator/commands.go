//go:build commands

// Package commands pins the Prometheus Operator, which makes a Prometheus scrape what a ServiceMonitor names.
package commands

import (
	_ "github.com/prometheus-operator/prometheus-operator/cmd/operator"
	_ "github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader"
)
