package kernel

import "golang.org/x/sys/cpu"

// wide reports whether the processor computes eight float32 at once, as the functions in f32_amd64.s require.
var wide = cpu.X86.HasAVX2 && cpu.X86.HasFMA

//go:noescape
func addScaledWide(to, from *float32, n int, by float32)

//go:noescape
func dot4Wide(x, w *float32, stride, n int, sums *[4]float32)
