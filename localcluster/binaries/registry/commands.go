//go:build commands

// Package commands pins the registry that the tests push images of artifacts to.
package commands

import _ "github.com/distribution/distribution/v3/cmd/registry"
