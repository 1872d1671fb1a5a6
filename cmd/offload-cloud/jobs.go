package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"app-offload/cmd/offload-cloud/internal/store"
)

func jobsVerb(ctx context.Context, args []string, std streams) error {
	fs := newFlags("jobs", std)
	return onStore(ctx, fs, args, map[string]func(*store.Store, []string) error{
		"list": func(db *store.Store, _ []string) error {
			encoder := json.NewEncoder(std.out)
			return eachFailed(ctx, db, func(j *store.FailedJob) error { return encoder.Encode(j) })
		},
		"retry": func(db *store.Store, args []string) error { return retryJobs(ctx, db, args, std.out) },
	})
}

func eachFailed(ctx context.Context, db *store.Store, f func(*store.FailedJob) error) error {
	for after := int64(0); ; {
		page, err := db.FailedJobs(ctx, after, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, j := range page {
			after = j.Record
			if err := f(j); err != nil {
				return err
			}
		}
	}
}

func retryJobs(ctx context.Context, db *store.Store, args []string, out io.Writer) error {
	records, err := parseIDs(args, "number of a record; see jobs list")
	if err != nil {
		return err
	}
	if len(args) == 0 {
		err := eachFailed(ctx, db, func(j *store.FailedJob) error { records = append(records, j.Record); return nil })
		if err != nil {
			return err
		}
	}
	retried := 0
	for _, record := range records {
		again, err := db.RetryJob(ctx, record)
		if err != nil {
			return err
		}
		if again {
			retried++
		}
	}
	_, err = fmt.Fprintf(out, "jobs to be computed again: %d\n", retried)
	return err
}
