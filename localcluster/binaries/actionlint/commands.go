//go:build commands

// Package commands pins actionlint, which reads the workflows as GitHub does.
package commands

import _ "github.com/rhysd/actionlint/cmd/actionlint"
