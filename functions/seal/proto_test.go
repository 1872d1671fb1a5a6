package seal

import (
	"context"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// batch.proto and the code agree, in both directions.
func TestProtoDescribesTheBatch(t *testing.T) {
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{ImportPaths: []string{"../.."}}}
	files, err := compiler.Compile(context.Background(), "functions/seal/batch.proto")
	require.NoError(t, err)
	desc := files[0].Messages().ByName("Batch")
	field := func(name protoreflect.Name) protoreflect.FieldDescriptor { return desc.Fields().ByName(name) }

	b := goldenBatch()
	msg := dynamicpb.NewMessage(desc)
	require.NoError(t, proto.Unmarshal(b.appendProtobuf(nil), msg))
	require.Empty(t, msg.GetUnknown())
	require.Equal(t, b.Node, msg.Get(field("node")).String())
	require.Equal(t, b.Epoch, msg.Get(field("epoch")).String())
	deltas := msg.Get(field("sequences")).List()
	require.Equal(t, len(b.Sequences), deltas.Len())
	last := uint64(0)
	for i, want := range b.Sequences {
		last += uint64(deltas.Get(i).Int())
		require.Equal(t, want, last)
	}
	tasks := msg.Get(field("tasks")).List()
	first := tasks.Get(0).Message()
	require.Equal(t, "press-1", first.Get(first.Descriptor().Fields().ByName("device")).String())

	written, err := proto.Marshal(msg)
	require.NoError(t, err)
	back := &Batch{Node: b.Node, Epoch: b.Epoch}
	require.NoError(t, back.readProtobuf(written, len(b.Tasks)))
	require.Equal(t, b.Sequences, back.Sequences)
	require.Len(t, back.Tasks, len(b.Tasks))
}

// Fields of a later version are skipped; a batch whose node differs from its attributes is rejected.
func TestLaterFieldsAreSkipped(t *testing.T) {
	b := goldenBatch()
	data := protowire.AppendString(protowire.AppendTag(b.appendProtobuf(nil), 99, protowire.BytesType), "later")
	back := &Batch{Node: b.Node, Epoch: b.Epoch}
	require.NoError(t, back.readProtobuf(data, len(b.Tasks)))
	require.Equal(t, b.Tasks, back.Tasks)
	require.Error(t, (&Batch{Node: "other", Epoch: b.Epoch}).readProtobuf(data, len(b.Tasks)))
}
