//go:build tools

// Package host pins the last Python language host that is a Go module of its own.
package host

import _ "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"
