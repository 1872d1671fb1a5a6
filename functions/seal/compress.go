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

// windowSize is the compressor's window, and the memory that a reader needs: about one usual message.
const windowSize = 1 << 20

// gzipLevels maps CompressionLevel 1 to 4 to the levels of gzip.
var gzipLevels = [...]int{1: 1, 2: 6, 3: 7, 4: 9}

// foldPrefix precedes the name of the compression if the payload was folded first.
const foldPrefix = "fold-"

// compressor compresses payloads with one method. It is safe for concurrent use.
type compressor struct {
	name    string // as in contentencoding
	zstd    *zstd.Encoder
	gzip    sync.Pool // of *gzip.Writer
	columns sync.Pool // of *fold.Columns; New is nil without folding
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
		// No checksum: the cipher's tag, or else TCP's checksum, protects the data.
		c.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(level)), zstd.WithWindowSize(windowSize),
			zstd.WithEncoderCRC(false), zstd.WithAllLitEntropyCompression(true), // otherwise base64 would not be compressed
			zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	case CompressionGzip:
		c.gzip.New = func() any {
			w, _ := gzip.NewWriterLevel(io.Discard, gzipLevels[level]) // fails only for levels outside the table
			return w
		}
	}
	if err != nil {
		return nil, fmt.Errorf("preparing %s at level %d: %w", name, level, err)
	}
	return c, nil
}

// pack appends the compressed form of src.
func (c *compressor) pack(dst, src []byte) ([]byte, error) {
	if c.columns.New == nil {
		return c.compress(dst, src)
	}
	f := c.columns.Get().(*fold.Columns)
	defer c.putColumns(f)
	f.Fold(src)
	// Each column has its own statistics, so each gets its own frame; readers see them as one stream.
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

// appender is a Writer that appends to a slice.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// unpacker decompresses payloads of any encoding within a limit. It is safe for concurrent use.
type unpacker struct {
	limit int64
	zstd  sync.Pool // of *zstd.Decoder
}

// unpack reverses pack. The result may share memory with src. The limit applies to a folded payload before and after unfolding.
func (u *unpacker) unpack(name string, src []byte, limit int64) ([]byte, error) {
	compression, folded := strings.CutPrefix(name, foldPrefix)
	if folded && compression == CompressionNone {
		compression = name
	}
	if !folded {
		return u.decompress(compression, src, limit)
	}
	// Columns may be slightly larger than the payload.
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
	return nil, malformedf("attributes", "unknown contentencoding %q", name)
}

func (u *unpacker) unpackZstd(src []byte, limit int64) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(src); err == nil && h.HasFCS && h.FrameContentSize > uint64(limit) {
		return nil, &TooLargeError{What: "data", Size: -1, Limit: limit}
	}
	d, _ := u.zstd.Get().(*zstd.Decoder)
	if d == nil {
		// With concurrency 1 the decoder runs in the caller's goroutine, so a decoder that the pool discards leaks nothing. Only invalid options fail.
		d, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(2*uint64(u.limit)), zstd.WithDecoderMaxWindow(8*windowSize))
	}
	defer u.zstd.Put(d)
	if err := d.Reset(bytes.NewReader(src)); err != nil {
		return nil, malformed("zstd data", err)
	}
	return drain(CompressionZstd, d, limit)
}

// drain reads at most one byte more than the limit: the decoder's own limit does not apply to streams.
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
