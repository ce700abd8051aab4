//go:build commands

// Package commands.
package commands

import _ "github.com/rhysd/actionlint/cmd/actionlint"
