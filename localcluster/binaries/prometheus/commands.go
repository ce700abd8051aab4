//go:build commands

// Package commands pins the Prometheus server, which the tests scrape with, and the tool that checks its rules.
package commands

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
	_ "github.com/prometheus/prometheus/cmd/promtool"
)
