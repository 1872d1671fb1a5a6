package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"app-offload/cmd/offload-cloud/internal/store"
)

const jobsUsage = `Usage:
  offload-cloud jobs list  -store URL               jobs without an answer, or whose answer the node refused or never confirmed, with the reason, as JSON lines
  offload-cloud jobs retry -store URL [RECORD …]    compute them anew; all without a record

The counts of all jobs are in offload-cloud stats.

Flags:
`

func jobsVerb(ctx context.Context, args []string, std streams) error {
	fs := newFlags("jobs", jobsUsage, std)
	dsn := fs.String("store", "sqlite:offload-cloud.db", "where the consumer stores")
	rest, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		fs.Usage()
		return errUsage
	}
	db, err := store.Open(ctx, *dsn, store.Options{MustExist: true})
	if err != nil {
		return err
	}
	switch rest[0] {
	case "list":
		encoder := json.NewEncoder(std.out)
		err = eachFailed(ctx, db, func(j *store.FailedJob) error { return encoder.Encode(j) })
	case "retry":
		err = retryJobs(ctx, db, rest[1:], std.out)
	default:
		err = fmt.Errorf("%q: must be one of list and retry", rest[0])
	}
	return errors.Join(err, db.Close())
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
	var records []int64
	for _, arg := range args {
		record, err := strconv.ParseInt(arg, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not the number of a record; see jobs list", arg)
		}
		records = append(records, record)
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
	_, err := fmt.Fprintf(out, "to be computed again: %d\n", retried)
	return err
}
