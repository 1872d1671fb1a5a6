//go:build !amd64

package kernel

const wide = false

func addScaledWide(_, _ *float32, _ int, _ float32) {}

func dot4Wide(_, _ *float32, _, _ int, _ *[4]float32) {}
