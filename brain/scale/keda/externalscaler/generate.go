// Package externalscaler is KEDA's protocol for external scalers, generated.
package externalscaler

//go:generate ./generate.sh
