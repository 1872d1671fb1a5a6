// Package models stores the models of a gateway, and computes answers to readings with them.
//
// A Store is a folder that contains a folder for each version of a model: a manifest, its signature, and the model's file (FORMAT.md). It loads a
// model on first use, within a memory limit, and evicts the least recently used models to make room. A new version is read, verified, loaded and
// warmed beside the old version, and then replaces it for later callers; the old version leaves memory after its last user. A version that fails any
// of these steps changes only the status.
//
// All paths stay within the folder (os.Root), and sizes are compared with the manifest before memory is allocated. A Store is safe for concurrent
// use. Acquire and version changes wait for memory in the order of their calls, so small models cannot starve a large one. A goroutine that holds a
// lease must therefore not acquire another one.
//
// Which file holds which state:
//
//	store.go                  the Store and its locks: changing is held during a change of versions, then mu for all other state;
//	                          the version in force, and the canary beside it
//	folder.go                 the folder, and the file with the versions in force; changed only under changing
//	cache.go                  loaded versions. A loaded version counts its leases, and leaves memory with the last one
//	load.go, load_*.go        the loading of a file by its engine; manifest.go its checks before. No state
//	infer.go                  a run: lease, input, program, output. A lease belongs to the goroutine that acquired it
//	input.go, output.go
//	                          conversion of readings to tensors and of tensors to answers; no state but reused memory
//	look.go                   the same for tools, on a folder that no Store has open
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
	ErrUnknown = errors.New("unknown model")
	ErrOlder   = errors.New("the version is not newer than the newest version that was in force; request a rollback to use it")
	ErrClosed  = errors.New("the store of models is closed")
	ErrTooBig  = errors.New("the model does not fit into the memory for models")
)

// Config bounds a store.
type Config struct {
	Dir       string   // folder of models, created if it does not exist
	Variant   string   // edge or cloud; versions of the other variant are ignored
	MaxModels int      `within:"1 1000"`  // maximum number of names
	MaxMiB    int      `within:"1 2000"`  // maximum size of a model's file
	MemoryMiB int      `within:"1 65536"` // memory of all loaded models with their sessions
	Sessions  int      `within:"0 256"`   // concurrent runs of one model; 0 means the number of processors
	Preload   []string // loaded at the start
	Pin       []string // loaded at the start and kept in memory
	Canary    bool     // a new version is a canary until Settle
	Runtime   onnxruntime.Config
	Keys      []string // public keys in minisign's format; without keys, signatures are not required
}

// DefaultConfig suits a gateway with 1 GiB of memory.
func DefaultConfig() Config {
	return Config{Dir: "models", Variant: Edge, MaxModels: 64, MaxMiB: 64, MemoryMiB: 128, Runtime: onnxruntime.DefaultConfig()}
}

// Validate reports all problems together.
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

// maxVersions is the maximum number of versions of one model; an install keeps two.
const maxVersions = 16

// retryAfter is the time for which a model that failed to load is not loaded again.
const retryAfter = 10 * time.Second

// Status is the status of a model.
type Status struct {
	Name     string    `json:"name"`
	Version  Version   `json:"version"` // in force, "" if no version could be loaded
	Newest   Version   `json:"newest"`  // newest that was ever in force, or was a rejected canary
	Canary   Version   `json:"canary,omitempty"`
	Versions []Version `json:"versions"` // in the folder, oldest first
	Engine   string    `json:"engine"`
	Folder   string    `json:"folder"`
	Classes  []string  `json:"classes,omitempty"` // of the version in force
	Signed   string    `json:"signed,omitempty"`  // trusted comment of its signature
	Loaded   bool      `json:"loaded"`
	Pinned   bool      `json:"pinned"`
	Users    int       `json:"users"`
	Sessions int       `json:"sessions"`
	Bytes    int64     `json:"bytes"` // memory, at present or when it was last loaded
	MACs     int64     `json:"macs"`
	Run      float64   `json:"runMicroseconds"`   // measured when it was last loaded
	Problem  string    `json:"problem,omitempty"` // why the last load or swap failed
}

// Counts are sums since the store was opened.
type Counts struct {
	Loads, Evictions, Swaps, Failures uint64
	Used, Limit                       int64 // bytes of memory
}
