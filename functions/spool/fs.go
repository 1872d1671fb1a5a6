package spool

import "io"

// FS is the part of a file system that the spool uses, small enough for tests to inject faults.
type FS interface {
	MkdirAll(dir string) error
	// Create creates an empty file for reading and writing, and replaces an existing one.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing, or only for reading.
	Open(name string, write bool) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List returns the names in a directory, in any order.
	List(dir string) ([]string, error)
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(dir string) error
	// Lock takes the directory's lock file or fails with ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Preallocate reserves size bytes, so that writing them cannot fail for lack of space. On a file system that cannot do so it does nothing.
	Preallocate(size int64) error
	// SyncData makes the file's bytes durable, and the metadata needed to read them.
	SyncData() error
	// At fails if the name no longer refers to this file.
	At(name string) error
}
