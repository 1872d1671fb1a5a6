package trial

import "math"

// wager is a test that may be looked at after every single observation: its chance of ever rejecting a true hypothesis is at
// most alpha, however long it runs.
//
// The hypothesis is that observations in [−1, 1], whatever they depend on, are on average no more than the margin. A gambler
// who bets a share of his capital against it, chosen before each observation, cannot expect to gain if it holds: by Ville's
// inequality his capital ever reaches 1/alpha with a chance of at most alpha. This is testing by betting, after
// Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", J. R. Stat. Soc. B 86 (2024); the
// size of the bet is their approximate growth rate adaptive one, on a mean and a variance that forget, so that a canary that
// turns bad after months is bet against as soon as the latest observations say so.
type wager struct {
	margin, limit  float64 // limit is ln(1/alpha)
	capital        float64 // its logarithm
	mean, variance float64
	n              float64
	lost           bool // the hypothesis is rejected
}

const (
	wagerMemory = 500  // observations that the size of the bet is learned from
	wagerMost   = 0.75 // of the capital that may be lost in one bet
)

func newWager(margin, alpha float64) wager {
	return wager{margin: margin, limit: math.Log(1 / alpha), variance: 0.25}
}

// bet takes one observation and reports whether the hypothesis is now rejected. Once rejected, it stays so.
func (w *wager) bet(x float64) bool {
	x = min(max(x, -1), 1)
	over := w.mean - w.margin
	stake := over / (w.variance + over*over)
	stake = min(max(stake, 0), wagerMost/(1+w.margin)) // at worst x is −1
	w.capital += math.Log1p(stake * (x - w.margin))
	w.learn(x)
	w.lost = w.lost || w.capital >= w.limit
	return w.lost
}

// learn moves mean and variance towards x, from a prior that counts as one observation.
func (w *wager) learn(x float64) {
	w.n = min(w.n+1, wagerMemory)
	weight := 1 / (w.n + 1)
	off := x - w.mean
	w.mean += weight * off
	w.variance += weight * (off*(x-w.mean) - w.variance)
	w.variance = max(w.variance, 1e-6)
}
