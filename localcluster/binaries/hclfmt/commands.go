//go:build commands

// Package commands pins hclfmt, which formats HCL: the tests hold terraform/ against it.
package commands

import _ "github.com/hashicorp/hcl/v2/cmd/hclfmt"
