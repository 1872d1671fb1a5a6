package decision

// Uniform returns the n-th draw of a seed in [0,1): the finalizer of SplitMix64 over a counter. It needs neither a lock nor shared state beyond the
// counter.
func Uniform(seed, n uint64) float64 {
	z := seed + n*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}
