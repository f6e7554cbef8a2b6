package main

import (
	"cmp"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sluicelb/sluice/cache/replay"
)

func newCacheReplayCommand(c *cli) *cobra.Command {
	path, size := "", 2000
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Say how often each L1 engine would have had a key of the past",
		Long: `Run a trace of keys through a cache of each L1 engine and compare their hit ratios with those of plain LRU and of Bélády's optimum,
which knows the future. The trace has one key a line; it may be compressed with gzip. Every entry counts the same, whatever
its size. No daemon is needed.`,
		Example: `  sluice cache replay --trace keys.gz --size 2000
  sluice cache replay --trace - -o json < keys`,
		Args:              arguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if size < 1 {
				return invalidInput("--size must be 1 or more entries")
			}
			trace, err := c.readTrace(path)
			if err != nil {
				return err
			}
			report, err := replay.Run(cmd.Context(), trace, size)
			if err != nil {
				return err
			}
			return c.show(cmd, report, func(p *page) { p.replay(report) })
		},
	}
	cmd.Flags().StringVar(&path, "trace", "", "trace, a `FILE` of keys; \"-\" is standard input")
	_ = cmd.MarkFlagFilename("trace", "gz", "keys", "txt") // fails only for an unknown flag
	cmd.Flags().IntVar(&size, "size", size, "`ENTRIES` that a cache holds")
	return outputFlag(cmd, formatTable, formatJSON, formatYAML)
}

// readTrace reads the file of keys, "-" is standard input.
func (c *cli) readTrace(path string) (*replay.Trace, error) {
	input := io.NopCloser(c.stdin)
	switch path {
	case "":
		return nil, usageError("--trace is missing: name the trace, a file with one key a line")
	case "-":
	default:
		file, err := os.Open(path)
		if err != nil {
			return nil, invalidInput("%v", err)
		}
		input = file
	}
	defer input.Close()
	trace, err := replay.Read(input)
	if err != nil {
		return nil, invalidInput("%s: %v", path, err)
	}
	return trace, nil
}

// replay prints the hit ratios, the best first.
func (p *page) replay(r *replay.Report) {
	p.line("%d accesses", r.Accesses)
	p.line("")
	names := slices.SortedFunc(maps.Keys(r.Engines), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Engines[b], r.Engines[a]), cmp.Compare(a, b))
	})
	t := newTable("policy", "hit ratio", "")
	for _, name := range names {
		note := ""
		if name == string(r.Default) {
			note = "default"
		}
		t.add(name, cell{text: strconv.FormatFloat(r.Engines[name], 'f', 4, 64), right: true}, note)
	}
	p.table(t)
}
