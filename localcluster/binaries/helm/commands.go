//go:build commands

// Package commands pins the Helm command that the demo installs the chart with.
package commands

import _ "helm.sh/helm/v4/cmd/helm"
