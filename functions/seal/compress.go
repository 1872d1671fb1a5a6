package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"app-offload/functions/seal/fold"
)

// windowSize is how far back the compressor looks, and what a reader needs in memory: as much as one usual message.
const windowSize = 1 << 20

// gzipLevels are the levels of gzip that CompressionLevel 1 to 4 stand for.
var gzipLevels = [...]int{1: 1, 2: 6, 3: 7, 4: 9}

// foldPrefix before the name of a compression says that the payload was folded first.
const foldPrefix = "fold-"

// compressor packs payloads one way. Safe for concurrent use.
type compressor struct {
	name    string // as contentencoding has it
	zstd    *zstd.Encoder
	gzip    sync.Pool // of *gzip.Writer
	columns sync.Pool // of *fold.Columns; New is nil where nothing is folded
}

func newCompressor(name string, folds bool, level int) (*compressor, error) {
	c := &compressor{name: name}
	if folds && name != CompressionNone {
		c.name = foldPrefix + name
		c.columns.New = func() any { return &fold.Columns{} }
	}
	var err error
	switch name {
	case CompressionZstd:
		// No checksum: the cipher's tag, or else TCP's, is the better one.
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(level)), zstd.WithWindowSize(windowSize),
			zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true), // or base64 would stay as it is
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	case CompressionGzip:
		c.gzip.New = func() any {
			w, _ := gzip.NewWriterLevel(io.Discard, gzipLevels[level]) // fails on levels outside the table only
			return w
		}
	}
	if err != nil {
		return nil, fmt.Errorf("preparing %s at level %d: %w", name, level, err)
	}
	return c, nil
}

// pack appends the packed form of src.
func (c *compressor) pack(dst, src []byte) ([]byte, error) {
	if c.columns.New == nil {
		return c.compress(dst, src)
	}
	f := c.columns.Get().(*fold.Columns)
	defer c.putColumns(f)
	f.Fold(src)
	// Each column has statistics of its own, so each gets a frame of its own; readers see them as one stream.
	var err error
	for _, column := range [...][]byte{f.Text, f.IDs, f.Digits, f.Blobs} {
		if len(column) > 0 && err == nil {
			dst, err = c.compress(dst, column)
		}
	}
	return dst, err
}

func (c *compressor) putColumns(f *fold.Columns) {
	if cap(f.Text)+cap(f.Digits)+cap(f.Blobs) <= maxKept {
		c.columns.Put(f)
	}
}

func (c *compressor) compress(dst, src []byte) ([]byte, error) {
	switch {
	case c.zstd != nil:
		return c.zstd.EncodeAll(src, dst), nil
	case c.gzip.New != nil:
		return c.compressGzip(dst, src)
	}
	return append(dst, src...), nil
}

func (c *compressor) compressGzip(dst, src []byte) ([]byte, error) {
	w := c.gzip.Get().(*gzip.Writer)
	defer c.gzip.Put(w)
	out := appender{dst}
	w.Reset(&out)
	if _, err := w.Write(src); err != nil {
		return dst, err
	}
	err := w.Close()
	return out.b, err
}

// appender is a Writer to the end of a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// unpacker unpacks payloads of any kind within a limit. Safe for concurrent use.
type unpacker struct {
	limit int64
	zstd  sync.Pool // of *zstd.Decoder
}

// unpack reverses pack. The result may share memory with src. A folded payload is held to the limit before and after.
func (u *unpacker) unpack(name string, src []byte, limit int64) ([]byte, error) {
	compression, folded := strings.CutPrefix(name, foldPrefix)
	if folded && compression == CompressionNone {
		compression = name
	}
	if !folded {
		return u.decompress(compression, src, limit)
	}
	// Columns may be a little larger than what they stand for.
	data, err := u.decompress(compression, src, limit+limit/8+fold.Header)
	if large, ok := errors.AsType[*TooLargeError](err); ok {
		large.Limit = limit
	}
	if err != nil {
		return nil, err
	}
	data, err = fold.Unfold(data, limit)
	if errors.Is(err, fold.ErrTooLarge) {
		return nil, &TooLargeError{What: "data", Size: -1, Limit: limit}
	}
	if err != nil {
		return nil, malformed("fold", err)
	}
	return data, nil
}

func (u *unpacker) decompress(name string, src []byte, limit int64) ([]byte, error) {
	switch name {
	case CompressionNone:
		if int64(len(src)) > limit {
			return nil, &TooLargeError{What: "data", Size: int64(len(src)), Limit: limit}
		}
		return src, nil
	case CompressionGzip:
		r, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return nil, malformed("gzip data", err)
		}
		return drain(name, r, limit)
	case CompressionZstd:
		return u.unpackZstd(src, limit)
	}
	return nil, malformedf("attributes", "contentencoding %q is not known", name)
}

func (u *unpacker) unpackZstd(src []byte, limit int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(src); err == nil && h.HasFCS && h.FrameContentSize > uint64(limit) {
		return nil, &TooLargeError{What: "data", Size: -1, Limit: limit}
	}
	d, _ := u.zstd.Get().(*zstd.Decoder)
	if d == nil {
		// One at a time decodes in the caller's goroutine, so a decoder that the pool forgets leaks nothing. It fails on no options but wrong ones.
		d, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(2*uint64(u.limit)), zstd.WithDecoderMaxWindow(8*windowSize))
	}
	defer u.zstd.Put(d)
	if err := d.Reset(bytes.NewReader(src)); err != nil {
		return nil, malformed("zstd data", err)
	}
	return drain(CompressionZstd, d, limit)
}

// drain reads at most one byte more than the limit: the decoder's own bound does not hold for streams.
func drain(name string, r io.Reader, limit int64) ([]byte, error) {
	var out bytes.Buffer
	n, err := out.ReadFrom(io.LimitReader(r, limit+1))
	if n > limit || errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, &TooLargeError{What: "data", Size: -1, Limit: limit}
	}
	if err != nil {
		return nil, malformed(name+" data", err)
	}
	return out.Bytes(), nil
}
