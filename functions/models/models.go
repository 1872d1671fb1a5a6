// Package models keeps the models that a gateway runs, and turns readings into answers with them.
//
// A Store is a folder with a folder for each version of a model: a manifest, its signature, and the model's file (FORMAT.md). It loads a model when
// it is first used, within a limit of memory, and takes the least recently used one out for it. A new version is read, checked, loaded and
// warmed beside the old one, then takes its place for later callers; the old one leaves memory after its last user. A version that fails
// any of this changes nothing but the status.
//
// All names stay within the folder (os.Root), and sizes are compared with the manifest before memory is taken. Everything is safe for
// concurrent use. Acquire and Swap wait for memory in the order of their calls, so that a large model is not passed forever by small ones;
// a goroutine that holds a lease must therefore not acquire another.
//
// Which file holds which state:
//
//	store.go                  the Store and its locks: changing is held for one change of versions at a time, then mu for all other state;
//	                          the version in force, and the canary beside it
//	folder.go                 the folder, and the file that says which version is in force; changed under changing alone
//	cache.go                  what is loaded. A loaded version counts its leases, and leaves memory with the last one
//	load.go, load_*.go        a file becomes a program of its engine; manifest.go what is checked before. No state
//	infer.go                  a run: lease, input, program, output. A lease belongs to the goroutine that acquired it
//	input.go, output.go
//	                          readings become tensors and tensors answers; no state but memory that runs reuse
//	look.go                   the same for tools, on a folder that no Store holds open
package models

import (
	"errors"
	"runtime"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/engine/onnxruntime"
)

// Errors that callers branch on.
var (
	ErrUnknown = errors.New("there is no such model")
	ErrOlder   = errors.New("the version is not newer than the newest one that was in force; ask for a rollback to use it")
	ErrClosed  = errors.New("the store of models is closed")
	ErrTooBig  = errors.New("the model does not fit the memory for models")
)

// Config bounds a store.
type Config struct {
	Dir       string   // the folder; it is made where it does not exist
	Variant   string   // edge or cloud; versions of the other variant are left alone
	MaxModels int      `within:"1 1000"`  // names; more are not read
	MaxMiB    int      `within:"1 2000"`  // of one model's file
	MemoryMiB int      `within:"1 65536"` // of all loaded models with their sessions
	Sessions  int      `within:"0 256"`   // runs of one model at the same time; 0 is the number of processors
	Preload   []string // loaded at the start
	Pin       []string // loaded at the start and kept in memory
	Canary    bool     // a new version is a canary until Settle
	Runtime   onnxruntime.Config
	Keys      []string // public keys in minisign's format; with none, signatures are not required
}

// DefaultConfig suits a gateway of 1 GiB.
func DefaultConfig() Config {
	return Config{Dir: "models", Variant: Edge, MaxModels: 64, MaxMiB: 64, MemoryMiB: 128, Runtime: onnxruntime.DefaultConfig()}
}

// Validate names everything that is wrong.
func (c Config) Validate() error {
	p := check.Fields("Models", c)
	if c.Dir == "" {
		p.Addf("Dir", c.Dir, "must name a folder")
	}
	p.OneOf("Variant", c.Variant, Edge, Cloud)
	for key, list := range map[string][]string{"Preload": c.Preload, "Pin": c.Pin} {
		for _, name := range list {
			if !validName(name) {
				p.Addf(key, cut(name), "must be names of models")
			}
		}
	}
	p.Add(check.Fields("Models", c.Runtime).Err())
	if _, err := ParseTrust(c.Keys); err != nil {
		p.Add(err)
	}
	return p.Err()
}

func (c Config) sessions() int {
	if c.Sessions > 0 {
		return c.Sessions
	}
	return runtime.GOMAXPROCS(0)
}

// maxVersions bounds the versions of one model that are read; an install keeps two.
const maxVersions = 16

// retryAfter is how long a model that failed to load is not tried again.
const retryAfter = 10 * time.Second

// Status is what is known of a model.
type Status struct {
	Name     string    `json:"name"`
	Version  Version   `json:"version"` // in force, "" where none could be loaded
	Newest   Version   `json:"newest"`  // that was ever in force, or was turned down as a canary
	Canary   Version   `json:"canary,omitempty"`
	Versions []Version `json:"versions"` // in the folder, oldest first
	Engine   string    `json:"engine"`
	Folder   string    `json:"folder"`
	Classes  []string  `json:"classes,omitempty"` // that the version in force names
	Signed   string    `json:"signed,omitempty"`  // the trusted comment of its signature
	Loaded   bool      `json:"loaded"`
	Pinned   bool      `json:"pinned"`
	Users    int       `json:"users"`
	Sessions int       `json:"sessions"`
	Bytes    int64     `json:"bytes"` // of memory, now or when it was last loaded
	MACs     int64     `json:"macs"`
	Run      float64   `json:"runMicroseconds"`   // measured when it was last loaded
	Problem  string    `json:"problem,omitempty"` // why the last load or swap failed
}

// Counts are sums since the store was opened.
type Counts struct {
	Loads, Evictions, Swaps, Failures uint64
	Used, Limit                       int64 // bytes of memory
}
