package spool

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The invariants that a power cut at any moment must not break:
//
//   - a record whose Append was confirmed, and that was not ended, is there with the same bytes, class, score and times;
//   - a record that was ended before a Checkpoint returned never reappears;
//   - no record is there that was not appended, and none twice;
//   - a sequence that was confirmed or taken is never assigned to another record;
//   - appended = done + dropped + held, in total and for each class, and nothing counts as damaged;
//   - the epoch stays the same from the first confirmed record on, until NewEpoch returns another, which then stays.
type cutModel struct {
	t       testing.TB
	rng     *rand.Rand
	lot     *rand.Rand // decides what is lost
	cfg     Config
	without syncPoint
	fs      crashFS
	s       *Spool
	mark    int
	disk    atomic.Pointer[crashFS] // the disk after the power cut
	ops     atomic.Int64            // until the power cut

	mu sync.Mutex
	knowledge
	then knowledge // at the power cut
}

type knowledge struct {
	known  map[uint64]Record // confirmed or seen, held as far as we know
	flying map[uint64]Record // appended, not confirmed
	ended  map[uint64]Record // ended since the last checkpoint: may come back
	buried map[uint64]bool   // must never come back, nor be given again

	epoch    string
	changing bool // NewEpoch has been called and has not returned
}

func newCutModel(t testing.TB, seed uint64, policy string, without syncPoint) *cutModel {
	m := &cutModel{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), lot: rand.New(rand.NewPCG(seed, 2)), cfg: DefaultConfig(), without: without,
		knowledge: knowledge{known: map[uint64]Record{}, flying: map[uint64]Record{}, ended: map[uint64]Record{}, buried: map[uint64]bool{}},
	}
	m.fs = crashFS{vfs.NewCrashableMem(), m.operation}
	m.cfg.Sync = policy
	m.cfg.AckInterval = "1h" // the test says when
	return m
}

func (m *cutModel) open() error {
	s, err := Open("/data/spool", m.cfg, WithFS(m.fs), func(o *options) {
		o.without = m.without
		o.resize = func(l *limits) {
			l.quota, l.segment, l.slot, l.ring, l.quarantine, l.commitEvery = 160<<10, 8<<10, 4<<10, 8<<10, 10<<10, 0
		}
	})
	m.s = s
	return err
}

// life opens the spool, checks it, and uses it for a while. The power is cut before some operation on the disk; later operations reach a disk that no
// longer counts.
func (m *cutModel) life() error {
	m.ops.Store(1 << 30)
	if err := m.open(); err != nil {
		return fmt.Errorf("opening after a power cut: %w", err)
	}
	err := m.verify()
	m.ops.Store(int64(m.rng.IntN(50)))
	for range m.rng.IntN(12) {
		if err != nil || m.disk.Load() != nil {
			break
		}
		err = m.step()
	}
	m.cut()
	_ = m.s.Close()
	m.fs = *m.disk.Swap(nil)
	m.knowledge = m.then
	return err
}

// operation is called before each operation on the disk.
func (m *cutModel) operation() {
	if m.ops.Add(-1) == -1 {
		m.cut()
	}
}

// cut takes the disk as the power cut leaves it, and the knowledge at that moment.
func (m *cutModel) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disk.Load() != nil {
		return
	}
	m.then = knowledge{maps.Clone(m.known), maps.Clone(m.flying), maps.Clone(m.ended), maps.Clone(m.buried), m.epoch, m.changing}
	lost := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 20, 50, 90, 100}[m.lot.IntN(5)], RNG: m.lot}
	m.disk.Store(&crashFS{MemFS: m.fs.CrashClone(lost), before: m.operation})
}

func (m *cutModel) step() error {
	switch n := m.rng.IntN(100); {
	case n < 50:
		return m.appendSome(m.rng.IntN(3) > 0)
	case n < 80:
		m.takeSome()
	case n < 83:
		m.endHeld()
	case n < 86:
		return m.checkpoint()
	case n < 88:
		return m.newEpoch()
	case n < 94:
		m.s.house.Lock()
		_, err := m.s.rewriteSparsest()
		m.s.house.Unlock()
		return err
	case n < 97:
		return m.s.writeIndexes()
	default:
		m.s.pageIdle()
	}
	return nil
}

func (m *cutModel) appendSome(wait bool) error {
	var recs []Record
	for range 1 + m.rng.IntN(6) {
		m.mark++
		r := rec(m.rng.IntN(3)*4, string(rune('a'+m.rng.IntN(3))), 20+m.rng.IntN(2500), m.mark)
		r.Time = int64(m.mark)
		r.Hold = m.rng.IntN(4) == 0
		recs = append(recs, r)
	}
	c := make(chan error, 1)
	m.mu.Lock() // so that confirmation finds the records in flight; Append does not block on so few
	m.s.Append(recs, func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, r := range recs {
			if _, untaken := m.flying[r.Seq]; untaken && err == nil {
				m.known[r.Seq] = r
				delete(m.flying, r.Seq)
			} // after an error the content of the disk is unknown
		}
		c <- err
	})
	for _, r := range recs {
		if r.Seq == 0 {
			continue
		}
		if m.buried[r.Seq] || m.known[r.Seq].Seq != 0 {
			m.mu.Unlock()
			return fmt.Errorf("sequence %d was given twice", r.Seq)
		}
		m.flying[r.Seq] = r
	}
	m.mu.Unlock()
	if wait {
		if err := <-c; err != nil && !errors.Is(err, ErrFull) {
			return fmt.Errorf("appending: %w", err)
		}
	}
	return nil
}

func (m *cutModel) takeSome() {
	var got []Record
	lane, from := m.rng.IntN(3)*4, Source(1+m.rng.IntN(2))
	if m.rng.IntN(4) == 0 {
		got = m.s.TakeNewest(lane, "", 1+m.rng.IntN(40), 1<<20, nil)
	} else {
		got = m.s.Take(lane, []string{"", "a", "b"}[m.rng.IntN(3)], from, 1+m.rng.IntN(40), 1<<20, nil)
	}
	var ended []uint64
	m.mu.Lock()
	for _, r := range got {
		if m.rng.IntN(4) == 0 {
			continue // stays leased
		}
		ended = append(ended, r.Seq)
		m.ended[r.Seq] = r
		delete(m.known, r.Seq)
		delete(m.flying, r.Seq) // it may be taken before Append's done was called
	}
	m.mu.Unlock()
	switch m.rng.IntN(5) {
	case 0:
		m.s.Drop(ended, "because")
	default:
		m.s.Done(ended)
	}
}

// endHeld ends some held records as done locally, and releases others.
func (m *cutModel) endHeld() {
	var done, let []uint64
	m.mu.Lock()
	for _, seq := range slices.Sorted(maps.Keys(m.known)) {
		switch r := m.known[seq]; {
		case !r.Hold || m.rng.IntN(2) == 0:
		case m.rng.IntN(2) == 0:
			let = append(let, seq)
		default:
			done = append(done, seq)
			m.ended[seq] = r
			delete(m.known, seq)
		}
	}
	m.mu.Unlock()
	m.s.Release(let)
	m.s.Drop(done, ReasonHere)
}

func (m *cutModel) checkpoint() error {
	m.mu.Lock()
	before := maps.Clone(m.ended)
	m.mu.Unlock()
	if err := m.s.Checkpoint(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for seq := range before {
		delete(m.ended, seq)
		m.buried[seq] = true
	}
	return nil
}

func (m *cutModel) newEpoch() error {
	m.mu.Lock()
	m.changing = true
	m.mu.Unlock()
	epoch, err := m.s.NewEpoch()
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.epoch, m.changing = epoch, false
	}
	return err
}

// verify compares the spool with the model, and updates the model from it.
func (m *cutModel) verify() error {
	st := m.s.Stats()
	sum := st.Done + st.Held
	for _, n := range st.Dropped {
		sum += n
	}
	switch {
	case sum != st.Appended:
		return fmt.Errorf("appended %d ≠ done %d + dropped %v + held %d", st.Appended, st.Done, st.Dropped, st.Held)
	case st.Quarantined > 0 || st.Dropped[ReasonQuarantined] > 0:
		return fmt.Errorf("a power cut counted as damage: %v %v", st.Dropped, m.s.Damages())
	case m.cfg.Sync == SyncAlways && st.Dropped[ReasonLost] > 0:
		return fmt.Errorf("lost: %v", st.Dropped)
	case len(m.known) > 0 && m.epoch != "" && st.Epoch != m.epoch && !m.changing:
		return fmt.Errorf("epoch %s became %s", m.epoch, st.Epoch)
	}
	m.epoch, m.changing = st.Epoch, false
	held := map[uint64]Record{}
	for lane := range Lanes {
		for _, r := range m.s.Take(lane, "", Backlog, 1<<20, 1<<30, nil) {
			held[r.Seq] = r
			if err := m.explain(r); err != nil {
				return err
			}
		}
	}
	if len(held) != int(st.Held) {
		return fmt.Errorf("%d held, %d given", st.Held, len(held))
	}
	for seq := range m.known {
		if held[seq].Seq == 0 && m.cfg.Sync != SyncAlways {
			m.buried[seq] = true // lost as the policy allows, and not to be given again
		} else if held[seq].Seq == 0 {
			return fmt.Errorf("record %d was confirmed and is lost: %s", seq, m.s.Fate(seq))
		}
	}
	for seq := range m.ended {
		if held[seq].Seq == 0 {
			m.buried[seq] = true
		}
	}
	m.known, m.flying, m.ended = held, map[uint64]Record{}, map[uint64]Record{}
	all := make([]uint64, 0, len(held))
	for seq := range held {
		all = append(all, seq)
	}
	m.s.Release(all)
	return nil
}

func (m *cutModel) explain(r Record) error {
	if m.buried[r.Seq] {
		return fmt.Errorf("record %d was ended and is back", r.Seq)
	}
	for _, from := range []map[uint64]Record{m.known, m.flying, m.ended} {
		if want, ok := from[r.Seq]; ok && want.Lane == r.Lane && want.Class == r.Class && want.Score == r.Score &&
			want.Time == r.Time && slices.Equal(want.Payload, r.Payload) {
			return nil
		}
	}
	return fmt.Errorf("record %d (%s) was never appended so", r.Seq, r.Class)
}

// cutPower runs lives until an invariant breaks.
func cutPower(t testing.TB, seed uint64, cuts int, policy string, without syncPoint) (int, error) {
	m := newCutModel(t, seed, policy, without)
	for i := range cuts {
		if i%200 == 199 { // a new disk now and then, for the first days of a spool count too
			m = newCutModel(t, seed+uint64(i), policy, without)
		}
		if err := m.life(); err != nil {
			return i, err
		}
	}
	return cuts, nil
}

func powerCuts() int {
	if n, err := strconv.Atoi(os.Getenv("POWER_CUTS")); err == nil && n > 0 {
		return n
	}
	if raceEnabled || testing.Short() {
		return 400
	}
	return 2000
}

func TestNoPowerCutLosesWhatWasConfirmed(t *testing.T) {
	const disks = 4 // in parallel: a power cut mostly waits for goroutines
	for d := range disks {
		t.Run(fmt.Sprintf("disk %d", d), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			if n, err := cutPower(t, seed, powerCuts()/disks, SyncAlways, ""); err != nil {
				t.Fatalf("cut %d of seed %d: %v", n, seed, err)
			}
		})
	}
}

// If commits do not sync, a power cut may lose records; the counts show it, and no sequence is assigned twice.
func TestPowerCutUnderWeakSync(t *testing.T) {
	for _, policy := range []string{SyncInterval, SyncNone} {
		seed := rand.Uint64()
		if n, err := cutPower(t, seed, powerCuts()/10, policy, ""); err != nil {
			t.Fatalf("%s, cut %d of seed %d: %v", policy, n, seed, err)
		}
	}
}

// Each sync is needed: without any one of them the test above must fail.
func TestEachSyncIsNeeded(t *testing.T) {
	for _, p := range []syncPoint{syncCommit, syncRoll, syncParent, syncState, syncRewrite, syncSwap} {
		t.Run(string(p), func(t *testing.T) {
			n, err := cutPower(t, 7, 3000, SyncAlways, p)
			if err == nil {
				t.Fatalf("%d power cuts without the sync of %s broke nothing", n, p)
			}
			t.Logf("cut %d: %v", n, err)
		})
	}
}
