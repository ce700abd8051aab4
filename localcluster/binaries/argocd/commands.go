//go:build commands

// Package commands pins Argo CD, which the tests and the demo sync a repository with.
package commands

import _ "github.com/argoproj/argo-cd/v3/cmd"
