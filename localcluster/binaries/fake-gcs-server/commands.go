//go:build commands

// Package commands pins the Google Cloud Storage that the tests fetch artifacts from.
package commands

import _ "github.com/fsouza/fake-gcs-server"
