package faults

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of the consumer's database
	_ "modernc.org/sqlite"
)

// database reads the stored tasks independently of the consumer's code. It is open only while it reads: a consumer that starts after a kill must find
// the file as the kill left it.
type database struct {
	store     string // the value of the consumer's -store
	publisher *publisher
	violate   func(format string, args ...any)

	last     int64 // the highest row read
	rows     int
	doubled  int
	events   []stored // by number
	complete int      // events with all parts stored
	from, to int      // the events of a backlog,
	inside   int      // and the number of those stored
	order    []int    // events of the rows read since forget, in the order of storage
	late     int      // the number of those stored after a later event of their device
	special  map[string]contents
}

// contents counts each content stored under one id that is not numbered.
type contents map[string]int

// stored is the state of an event in the database.
type stored struct{ parts, seen uint8 }

func newDatabase(store string, p *publisher, violate func(string, ...any)) *database {
	return &database{store: store, publisher: p, violate: violate, special: map[string]contents{}}
}

// with opens the database for f.
func (d *database) with(f func(db *sql.DB) error) error {
	driver, name := "pgx", d.store
	if path, ok := strings.CutPrefix(d.store, "sqlite:"); ok {
		driver, name = "sqlite", "file:"+path+"?_pragma=busy_timeout(30000)&_pragma=query_only(1)"
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		return fmt.Errorf("opening the consumer's database: %w", err)
	}
	defer db.Close()
	return f(db)
}

// read reads the rows stored since the last call. It skips rows of a second service, which sends readings that no operator uses. On PostgreSQL ids
// follow insertion, not commit; ids of one node follow both, since a transaction locks the node's row before it inserts.
func (d *database) read(ctx context.Context) error {
	return d.with(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT id, event_id, chunk, parts, data FROM tasks WHERE id > $1 AND node = 'lab' ORDER BY id`, d.last)
		if err != nil {
			return fmt.Errorf("reading the tasks: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			var chunk, parts int
			var data []byte
			if err := rows.Scan(&d.last, &id, &chunk, &parts, &data); err != nil {
				return fmt.Errorf("reading the tasks: %w", err)
			}
			d.rows++
			d.take(id, chunk, parts, data)
		}
		return rows.Err()
	})
}

// take records one row.
func (d *database) take(id string, chunk, parts int, data []byte) {
	if some, ok := d.special[id]; ok {
		d.takeSpecial(id, some, data)
		return
	}
	n, err := d.publisher.number(id)
	if err != nil || parts < 1 || parts > 8 || chunk < 0 || chunk >= parts {
		d.violate("the database holds chunk %d of %d of event %q: not one of ours", chunk, parts, id)
		return
	}
	for len(d.events) <= n {
		d.events = append(d.events, stored{})
	}
	e, part := &d.events[n], uint8(1)<<chunk
	switch {
	case e.parts != 0 && e.parts != uint8(parts): // at most 8
		d.violate("event %s is in the database in %d parts and in %d", id, e.parts, parts)
	case e.seen&part != 0:
		d.doubled++
		d.violate("chunk %d of event %s is in the database twice", chunk, id)
	case parts == 1 && !bytes.Equal(data, d.publisher.raw(n)):
		d.violate("event %s is not in the database as it was published, but as %q", id, data)
	}
	e.parts = uint8(parts) // at most 8
	if whole := uint8(1<<parts - 1); e.seen != whole && e.seen|part == whole {
		d.complete++
		if n >= d.from && n < d.to {
			d.inside++
		}
	}
	e.seen |= part
	d.order = append(d.order, n)
}

// expect registers an event that is not numbered, with its content; several may share an id.
func (d *database) expect(id string, raw []byte) {
	if d.special[id] == nil {
		d.special[id] = contents{}
	}
	d.special[id][string(raw)] = 0
}

func (d *database) takeSpecial(id string, some contents, data []byte) {
	times, known := some[string(data)]
	switch {
	case !known:
		d.violate("the database holds event %s with a content that was never published: %.200q", id, data)
		return
	case times > 0:
		d.doubled++
		d.violate("event %s is in the database twice with one content", id)
	}
	some[string(data)]++
}

// awaited counts the expected events that are not stored.
func (d *database) awaited() (n int) {
	for _, some := range d.special {
		for _, times := range some {
			if times == 0 {
				n++
			}
		}
	}
	return n
}

// missing lists the events below n that are not stored completely.
func (d *database) missing(n int) []int {
	var list []int
	for i := range n {
		if i >= len(d.events) || d.events[i].parts == 0 || d.events[i].seen != uint8(1<<d.events[i].parts-1) {
			list = append(list, i)
		}
	}
	return list
}

// overtaken reports events from a number on that were stored before an earlier event of the same device.
func (d *database) overtaken(from int) {
	var last [devices]int
	for _, n := range d.order {
		if n < from {
			continue
		}
		if n < last[n%devices] {
			d.late++
			d.violate("event %d of pump-%d was stored after event %d, although nothing disturbed them", n, n%devices, last[n%devices])
		}
		last[n%devices] = n
	}
}

func (d *database) forget() { d.order = d.order[:0] }

// again counts duplicates in the database with its own queries.
func (d *database) again(ctx context.Context) (tasks, places, epochs int, err error) {
	err = d.with(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT COUNT(*) - (SELECT COUNT(*) FROM (SELECT DISTINCT node, event_id, chunk, data FROM tasks) AS t),
			COUNT(*) - (SELECT COUNT(*) FROM (SELECT DISTINCT node, epoch, sequence FROM tasks) AS p), (SELECT COUNT(DISTINCT epoch) FROM tasks WHERE node = 'lab') FROM tasks`).
			Scan(&tasks, &places, &epochs)
	})
	if err != nil {
		err = fmt.Errorf("counting the tasks: %w", err)
	}
	return tasks, places, epochs, err
}
