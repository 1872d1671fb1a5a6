package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// The outbox gives records as the spool does: those of a class in their order, the first whatever its size, and none behind one that no longer fits.
func TestTheOutboxTakesAsTheSpoolDoes(t *testing.T) {
	classes := []*task.Class{{Name: "a"}, {Name: "b", Priority: 1}}
	jobs := []Job{{Kind: 0, Bytes: 50}, {Kind: 1, Bytes: 7, Record: 9}, {Kind: 0, Bytes: 30}, {Kind: 0, Bytes: 40}, {Kind: 0, Bytes: 10}, {Kind: 1, Bytes: 5}}
	env := &Env{episode: &Episode{Jobs: jobs}, data: make([]byte, 100)}
	env.classes = append(env.classes, classes...)
	for _, c := range []struct {
		class       string
		most, bytes int
		want        []uint64
		left        host.Link
	}{
		{"a", 10, 100, []uint64{0, 2}, host.Link{BacklogTasks: 4, BacklogBytes: 64}},
		{"a", 2, 1000, []uint64{0, 2}, host.Link{BacklogTasks: 4, BacklogBytes: 64}},
		{"a", 10, 130, []uint64{0, 2, 3, 4}, host.Link{BacklogTasks: 2, BacklogBytes: 14}},
		{"a", 10, 1, []uint64{0}, host.Link{BacklogTasks: 5, BacklogBytes: 94}},
		{"b", 10, 14, []uint64{1, 5}, host.Link{BacklogTasks: 4, BacklogBytes: 130}},
		{"b", 1, 14, []uint64{1}, host.Link{BacklogTasks: 5, BacklogBytes: 135}},
	} {
		o := &outbox{env: env}
		for i := range jobs {
			o.waiting = append(o.waiting, posted{job: i})
		}
		var got []uint64
		for _, r := range o.Take(0, c.class, spool.Live, c.most, c.bytes, nil) {
			require.Equal(t, c.class, r.Class)
			require.Len(t, r.Payload, int(jobs[r.Seq].size()))
			got = append(got, r.Seq)
		}
		require.Equal(t, c.want, got)
		var l host.Link
		o.state(&l)
		require.Equal(t, c.left, l)
		require.Len(t, o.leased, len(got))
		queues := o.Queues(nil)
		var tasks, bytes int64
		for _, q := range queues {
			tasks, bytes = tasks+int64(q.Live), bytes+q.LiveBytes
		}
		require.Equal(t, l.BacklogTasks, tasks)
		require.Equal(t, l.BacklogBytes, bytes)
	}
}
