// A test to place into a copy of pkg/chunked of containers/storage: it times the original's look-up
// and its building of caches on the files that a job names, and writes what it found as JSON.
// See bench/README.md; bench/peers/go.py runs it.

package chunked

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type benchJob struct {
	Layers  []string // cache files in store order
	Queries []string // one file a set of queries: 32 raw bytes each
	N       int      // how many of each set to ask
	Workers int      // goroutines
	Repeats int
	Seconds float64  // no further repeat of a set after this
	Tocs    []string // JSON documents
	Out     string   // prefix of the files written: one of answers a set, and the JSON
}

type benchTimes struct {
	Wall float64 `json:"wall"`
	CPU  float64 `json:"cpu"`
	Runs int     `json:"runs"`
}

type benchResult struct {
	Build benchTimes   `json:"build"`
	Sets  []benchTimes `json:"sets"`
	Tocs  []benchTimes `json:"tocs"`
	Peak  int64        `json:"peak_bytes"`
	Held  int64        `json:"held_bytes"`
	Go    string       `json:"go"`
}

type discarded struct{ data []byte }

func (d *discarded) SetLayerBigData(_, _ string, data io.Reader) (err error) {
	d.data, err = io.ReadAll(data)
	return err
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}

func statusBytes(key string) int64 {
	data, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key+":" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}

func best(t *testing.T, repeats int, seconds float64, run func() error) benchTimes {
	result := benchTimes{Wall: 1e99}
	for total := 0.0; result.Runs < repeats && (result.Runs == 0 || total < seconds); result.Runs++ {
		cpu, start := cpuSeconds(), time.Now()
		if err := run(); err != nil {
			t.Fatal(err)
		}
		wall := time.Since(start).Seconds()
		total += wall
		if wall < result.Wall {
			result.Wall, result.CPU = wall, cpuSeconds()-cpu
		}
	}
	return result
}

func mapFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	data, err := syscall.Mmap(int(file.Fd()), 0, int(stat.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err == nil {
		_ = syscall.Madvise(data, syscall.MADV_RANDOM) // as loadLayerBigData
	}
	return data, err
}

func loadLayers(paths []string) (*layersCache, error) {
	cache := &layersCache{}
	for number, path := range paths {
		data, err := mapFile(path)
		if err != nil {
			return nil, err
		}
		file, err := readCacheFileFromMemory(data)
		if err != nil {
			return nil, err
		}
		name := strconv.Itoa(number)
		cache.layers = append(cache.layers, &layer{id: name, target: name, cacheFile: file})
	}
	return cache, nil
}

func readQueries(path string, n int) ([]*fileMetadata, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	files := make([]*fileMetadata, n)
	for i := range files {
		files[i] = &fileMetadata{}
		files[i].Digest = "sha256:" + hex.EncodeToString(data[32*i:32*i+32])
	}
	return files, nil
}

func TestVecacheBench(t *testing.T) {
	jobPath := os.Getenv("VECACHE_BENCH_JOB")
	if jobPath == "" {
		t.Skip("no job")
	}
	data, err := os.ReadFile(jobPath)
	if err != nil {
		t.Fatal(err)
	}
	var job benchJob
	if err := json.Unmarshal(data, &job); err != nil {
		t.Fatal(err)
	}
	result := benchResult{Go: runtime.Version()}
	sets := make([][]*fileMetadata, len(job.Queries))
	for i, path := range job.Queries {
		if sets[i], err = readQueries(path, job.N); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	before, beforeHeld := statusBytes("VmRSS"), statusBytes("RssAnon")
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the peak starts again here
	var cache *layersCache
	result.Build = best(t, 1, 0, func() (err error) {
		cache, err = loadLayers(job.Layers)
		return err
	})
	targets := make([]string, job.N)
	for i, set := range sets {
		result.Sets = append(result.Sets, best(t, job.Repeats, job.Seconds, func() error {
			return askAll(cache, set, targets, job.Workers)
		}))
		if err := writeAnswers(job.Out+strconv.Itoa(i), targets); err != nil {
			t.Fatal(err)
		}
	}
	result.Peak, result.Held = statusBytes("VmHWM")-before, statusBytes("RssAnon")-beforeHeld
	for i, path := range job.Tocs {
		manifest, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sink := &discarded{}
		result.Tocs = append(result.Tocs, best(t, job.Repeats, job.Seconds, func() error {
			_, err := writeCache(manifest, 0, "layer", sink) // 0: DifferOutputFormatDir
			return err
		}))
		if err := os.WriteFile(job.Out+"toc"+strconv.Itoa(i), sink.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	runtime.KeepAlive(cache)
	if data, err = json.Marshal(result); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(job.Out+".json", data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func askAll(cache *layersCache, files []*fileMetadata, targets []string, workers int) error {
	var group sync.WaitGroup
	errs := make([]error, workers)
	for worker := 0; worker < workers; worker++ {
		group.Add(1)
		go func(worker int) {
			defer group.Done()
			first, end := len(files)*worker/workers, len(files)*(worker+1)/workers
			for i := first; i < end; i++ {
				target, _, err := cache.findFileInOtherLayers(files[i], false)
				if err != nil {
					errs[worker] = err
					return
				}
				targets[i] = target
			}
		}(worker)
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// writeAnswers writes one little-endian int64 a query: the layer's number, -1 where absent.
func writeAnswers(path string, targets []string) error {
	data := make([]byte, 0, 8*len(targets))
	for _, target := range targets {
		number := int64(-1)
		if target != "" {
			number, _ = strconv.ParseInt(target, 10, 64)
		}
		data = binary.LittleEndian.AppendUint64(data, uint64(number))
	}
	return os.WriteFile(path, data, 0o644)
}
