//go:build commands

// Package commands.
package commands

import _ "github.com/hashicorp/hcl/v2/cmd/hclfmt"
