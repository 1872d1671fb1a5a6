package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/forward"
	"app-offload/functions/task"
)

// The use of nodes is counted once between two marks: records and their bytes, jobs with an answer, and results of local work, which count for their
// original class.
func testUsed(t *testing.T, s *Store) {
	nodes := func() []string {
		names, err := s.Nodes(t.Context())
		require.NoError(t, err)
		return names
	}
	settled := func(lag time.Duration) Mark {
		m, err := s.Settled(t.Context(), lag-time.Minute) // records have this process's time, which may be ahead of the database's by its resolution
		require.NoError(t, err)
		return m
	}
	used := func(after, upTo Mark) Uses {
		all, err := s.Used(t.Context(), after, upTo)
		require.NoError(t, err)
		return all
	}
	require.Empty(t, nodes())
	require.Zero(t, settled(0))
	withModel(s)
	of := func(class, policy string, data string) Record {
		one := whole(class + policy + data)
		one.Class, one.Policy, one.Data = &task.Class{Name: class}, policy, []byte(data)
		return Record{Task: one}
	}
	send := func(node string, first uint64, records ...Record) {
		for i := range records {
			records[i].Sequence = first + uint64(i)
		}
		commit(t, s, &Batch{Node: node, Epoch: "e1", Floor: 1, Records: records})
	}
	send("n2", 1, of("default", "", "123"))
	send("n1", 1, of("default", "", "1234"), of("default", "", "12345"), of("camera-results", forward.Policy, "1"), of("camera-results", "edge", "22"), of("default", forward.Policy, "333"))
	require.Equal(t, []string{"n1", "n2"}, nodes())
	require.Zero(t, settled(2*time.Hour), "it was stored just now")
	first := settled(0)
	require.Positive(t, first.Record)
	require.Zero(t, first.Answered)
	require.Equal(t, Uses{
		"n1": {"default": {Records: 3, Bytes: 12}, "camera-results": {Records: 2, Bytes: 3}, "camera": {Results: 1}},
		"n2": {"default": {Records: 1, Bytes: 3}},
	}, used(Mark{}, first))
	require.Empty(t, used(first, first))

	jobs, err := s.TakeJobs(t.Context(), "w", "bearing", time.Minute, 2)
	require.NoError(t, err)
	require.Len(t, jobs, 2)
	require.True(t, finish(t, s, "w", jobs[0].Record, "{}", ""))
	require.True(t, finish(t, s, "w", jobs[1].Record, "", "no such reading"))
	send("n1", 6, of("default", "", "1"))
	second := settled(0)
	require.Greater(t, second.Record, first.Record)
	require.Positive(t, second.Answered)
	node := jobs[0].Node
	want := Uses{"n1": {"default": {Records: 1, Bytes: 1}}}
	want.of(node, "default").Jobs = 1
	require.Equal(t, want, used(first, second), "a job without an answer costs nothing")
	require.Empty(t, used(second, second))
	require.Equal(t, Uses{node: {"default": {Jobs: 1}}}, used(Mark{Record: second.Record}, second))

	// A clock that was ahead before a mark, or stands still, hides no job from the next mark.
	for _, ahead := range []time.Duration{30 * 365 * 24 * time.Hour, time.Hour, 0} {
		_, err := s.write.ExecContext(t.Context(), fmt.Sprintf(`UPDATE jobs SET answered = answered + %d WHERE state >= 2`, ahead))
		require.NoError(t, err)
		before := settled(-2 * ahead)
		jobs, err = s.TakeJobs(t.Context(), "w", "bearing", time.Minute, 1)
		require.NoError(t, err)
		require.Len(t, jobs, 1)
		require.True(t, finish(t, s, "w", jobs[0].Record, "{}", ""))
		require.Equal(t, Uses{jobs[0].Node: {"default": {Jobs: 1}}}, used(before, settled(0)), ahead)
	}
}
