//go:build tools

// Package engine pins the Pulumi engine that a rehearsal builds where none is installed.
package engine

import (
	_ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
	_ "github.com/pulumi/pulumi/sdk/v3/go/common/util/cmdutil"
)
