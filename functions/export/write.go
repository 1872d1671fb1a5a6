package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
	"time"

	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// job is one message to publish: a batch, or a ready message without an attempt.
type job struct {
	attempt uint64
	flow    uint64
	batch   *seal.Batch
	records int // bytes of records
	topic   string
	message []byte
}

// write seals and publishes the jobs in order, on a goroutine of its own because both take time. If a batch cannot be sealed, the jobs after it are
// returned as well, so that none overtakes it.
func (r *round) write() {
	var failed uint64 // the flow in which sealing failed
	for {
		select {
		case <-r.s.Lost():
			return
		case j := <-r.jobs:
			if j.attempt > 0 && j.flow == failed {
				r.post(func() { r.x.window.unknown(j.attempt) })
				continue
			}
			if err := r.seal(&j); err != nil {
				failed = j.flow
				r.post(func() { r.unsealed(j, err) })
				continue
			}
			if j.attempt > 0 {
				r.post(func() { r.sealed(j) })
			}
			r.publish(j)
		}
	}
}

func (r *round) seal(j *job) (err error) {
	if j.batch != nil {
		j.message, err = r.x.deps.Sealer.Seal(make([]byte, 0, r.x.link.Message(j.records)), j.batch)
	}
	return err
}

// publish passes the message to the client; await handles its acknowledgement.
func (r *round) publish(j job) {
	began := time.Now()
	r.published = true
	alone := r.x.link.Start(r.life, j.records, len(j.message), began)
	token := r.s.Publish(j.topic, j.message)
	r.x.stats.do(func(s *Stats) {
		if j.attempt > 0 {
			s.Published++
		}
	})
	if mqtt.Finished(token) != nil && token.Error() != nil {
		r.s.FailSoon(token.Error()) // synchronously, so that no later message precedes it
		return
	}
	if r.open.Add(1) == 1 {
		r.progress.Store(int64(began.Sub(r.began)))
	}
	select {
	case r.flights <- flight{j, token, alone, began}:
	case <-r.s.Lost():
	}
}

// flight is a message that is not acknowledged yet.
type flight struct {
	job   job
	token mqtt.Token
	alone bool
	began time.Time
}

// await receives the outcomes of all messages in flight on one goroutine, so that a broker without acknowledgements does not cost a goroutine a
// message. Brokers may acknowledge in any order.
func (r *round) await() {
	receive := func(c any) reflect.SelectCase {
		return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
	}
	cases := []reflect.SelectCase{receive(r.s.Lost()), receive(r.flights)}
	const first = 2
	var flying []flight
	for {
		switch i, value, _ := reflect.Select(cases); i {
		case 0:
			return
		case 1:
			f := value.Interface().(flight)
			flying, cases = append(flying, f), append(cases, receive(f.token.Done()))
		default:
			f := flying[i-first]
			flying, cases = slices.Delete(flying, i-first, i-first+1), slices.Delete(cases, i, i+1)
			r.landed(f)
		}
	}
}

// landed processes an acknowledgement, or the failure of a publish.
func (r *round) landed(f flight) {
	if err := f.token.Error(); err != nil {
		r.s.FailSoon(err)
		return
	}
	now := time.Now()
	r.progress.Store(int64(now.Sub(r.began)))
	r.open.Add(-1)
	r.x.link.Ack(r.life, len(f.job.message), f.alone, f.began, now)
	if r.x.deps.OnProgress != nil {
		r.x.deps.OnProgress()
	}
	r.post(func() { r.puback(f.job, now) })
}

// puback runs on the owner's goroutine.
func (r *round) puback(j job, now time.Time) {
	x := r.x
	r.acked = true
	x.backoff.Reset()
	if j.attempt == 0 {
		if len(j.message) == 0 {
			x.window.probed()
		}
		return
	}
	x.stats.do(func(s *Stats) { s.Acked++; s.Bytes += uint64(len(j.message)) })
	x.confirm(x.window.puback(j.attempt, len(j.message), now))
}

// sealed runs on the owner's goroutine.
func (r *round) sealed(j job) {
	r.x.window.sized(j.attempt, len(j.message))
	r.x.holds.clear(holdSeal)
}

// unsealed runs on the owner's goroutine. A batch that cannot be sealed is cut; a missing key is waited for, since secrets may arrive late.
func (r *round) unsealed(j job, err error) {
	x := r.x
	x.flow++
	if j.attempt == 0 {
		return
	}
	now := time.Now()
	if large, ok := errors.AsType[*seal.TooLargeError](err); ok {
		x.stats.failed("too_large")
		x.window.unsealable(j.attempt, reasonTooLarge, excess{large.Size, large.Limit, large.Whose}, now)
		return
	}
	if _, ok := errors.AsType[*seal.MalformedError](err); ok {
		x.complain("malformed", fmt.Errorf("sealing a batch of class %q: %w", j.batch.Class, err))
		x.window.unsealable(j.attempt, reasonMalformed, excess{}, now)
		return
	}
	x.window.unknown(j.attempt)
	x.hold = now.Add(sealRetry)
	x.holds.set(holdSeal, "", err.Error())
	x.complain("seal", fmt.Errorf("sealing a batch of class %q: %w", j.batch.Class, err))
}

// sealRetry is how long publishing pauses if there is no key.
const sealRetry = time.Second

// job returns the writer's copy of an entry. The records are not shared: receipts may shrink the entry meanwhile.
func (x *Exporter) job(e *entry, attempt uint64) job {
	b := &seal.Batch{
		ID: batchID(x.deps.Spool.Epoch(), e.records), Node: x.deps.Node, Epoch: x.deps.Spool.Epoch(), Session: x.deps.Spool.Session(), Class: e.class,
		Created: time.Now(), Floor: x.deps.Spool.Floor(),
		Sequences: appendSequences(make([]uint64, 0, len(e.records)), e.records),
		Tasks:     make([][]byte, len(e.records)),
	}
	for i := range e.records {
		b.Tasks[i] = e.records[i].Payload
	}
	return job{attempt: attempt, flow: x.flow, batch: b, records: e.bytes, topic: x.topic(e.class)}
}

// batchID derives a batch's id from its records: the same records sent again have the same id, even after a restart.
func batchID(epoch string, records []spool.Record) string {
	h := fnv.New64a()
	var b [8]byte
	for i := range records {
		binary.BigEndian.PutUint64(b[:], records[i].Seq)
		_, _ = h.Write(b[:])
	}
	return fmt.Sprintf("%s-%d-%d-%016x", epoch, records[0].Seq, len(records), h.Sum64())
}

// topic returns the topic of a class's batches.
func (x *Exporter) topic(class string) string { return seal.BatchTopic(x.deps.Node, level(class)) }

// level turns a class name into one topic level; names from an old configuration may contain any characters.
func level(class string) string {
	if class == "" {
		return "default"
	}
	return strings.Map(func(r rune) rune {
		if slices.Contains([]rune("+#/\x00"), r) {
			return '_'
		}
		return r
	}, class)
}
