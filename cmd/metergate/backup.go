package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"metergate/cmd/metergate/storefile"
)

// backup saves a copy of the embedded store of a gateway that runs.
func backup(c *console) error {
	f := c.flags()
	admin := adminFlag(f)
	force := f.Bool("force", false, "replace FILE if it is there")
	args, err := c.parse(f, "FILE")
	if err != nil {
		return err
	}
	file := args[0]
	if file == "" {
		return c.usageError("FILE is empty")
	}
	if file != "-" {
		if err := storefile.CheckFree(file, *force); err != nil {
			return c.usageError("%v", err)
		}
	}
	client, err := newAdminClient(*admin)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res, err := client.send(ctx, adminRequest{method: http.MethodGet, path: "/admin/backup"})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := storefile.FromResponse(res)
	if err != nil {
		return err
	}
	told := time.Now()
	b.Progress = func(bytes int64) {
		tellProgress(c.stderr, &told, "received %.1f of %.1f MiB", mebibytes(bytes), mebibytes(b.Size))
	}
	if file == "-" {
		return b.CopyTo(c.stdout)
	}
	if err := b.Save(ctx, file, *force); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s: %.1f MiB, checked\n", file, mebibytes(b.Size))
	return nil
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

// shownFaults bounds the faults of one file that check prints.
const shownFaults = 20

// check looks for faults in the files of a gateway that is stopped.
func check(c *console) error {
	args, err := c.parse(c.flags(), "DIR|FILE")
	if err != nil {
		return err
	}
	checked, err := storefile.Check(args[0])
	isFaulty := false
	for _, f := range checked {
		waiting := ""
		if f.Journal {
			waiting = fmt.Sprintf(", %s waiting for Redis", plural(f.Entries, "count"))
		}
		if len(f.Faults) == 0 {
			fmt.Fprintf(c.stdout, "%s: %.1f MiB%s, no faults\n", f.File, mebibytes(f.Bytes), waiting)
			continue
		}
		isFaulty = true
		fmt.Fprintf(c.stdout, "%s: %s\n", f.File, plural(len(f.Faults), "fault"))
		for i, fault := range f.Faults {
			if i == shownFaults {
				fmt.Fprintf(c.stdout, "  and %d more\n", len(f.Faults)-i)
				break
			}
			fmt.Fprintf(c.stdout, "  %v\n", fault)
		}
	}
	if err == nil && isFaulty {
		return errDiffers
	}
	return err
}

// compact writes the file of a gateway that is stopped again, without the space that is free in it.
func compact(c *console) error {
	args, err := c.parse(c.flags(), "DIR")
	if err != nil {
		return err
	}
	file, before, after, err := storefile.Compact(args[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s: %.1f MiB, was %.1f MiB\n", file, mebibytes(after), mebibytes(before))
	return nil
}
