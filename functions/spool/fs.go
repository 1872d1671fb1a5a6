package spool

import "io"

// FS is what the spool needs of a file system, small enough that a test can put faults into it.
type FS interface {
	MkdirAll(dir string) error
	// Create makes an empty file for reading and writing and replaces one that exists.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing, or for reading alone.
	Open(name string, write bool) (File, error)
	Remove(name string) error
	Rename(from, to string) error
	// List gives the names in a directory, in any order.
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
	// Preallocate makes room for size bytes, so that writing them cannot fail for want of space. A file system that
	// cannot do so does nothing.
	Preallocate(size int64) error
	// SyncData makes the file's bytes durable, and of its metadata what is needed to read them.
	SyncData() error
}
