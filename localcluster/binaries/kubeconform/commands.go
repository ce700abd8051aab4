//go:build commands

// Package commands pins kubeconform, which reads manifests by JSON schemas and refuses a field that is not in them.
package commands

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
