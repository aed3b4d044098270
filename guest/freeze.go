package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	freezerName                = "vproxy-freeze"        // of the process that freezes
	freezeRequest, thawRequest = 0xc0045877, 0xc0045878 // FIFREEZE and FITHAW, on all processors
	freezeIdleTime             = 10 * time.Second       // for the peer to send its request, or to read an answer
	thawAtStop                 = 2 * time.Second
	freezerLook                = time.Second / 2
)

// isFrozen holds back the log while file systems are frozen: a thread that writes to one could not even be killed.
var isFrozen atomic.Bool

func waitForThaw() {
	for isFrozen.Load() {
		time.Sleep(10 * time.Millisecond)
	}
}

// freezeService freezes file systems of this machine for as long as a stream of the peer lasts (docs/restore.md).
type freezeService struct {
	hooks   string                 // a folder
	current atomic.Pointer[stream] // nil: nothing is frozen
}

// stop thaws, and lets nothing be frozen again.
func (s *freezeService) stop() {
	for end := time.Now().Add(thawAtStop); !s.current.CompareAndSwap(nil, new(stream)) && time.Now().Before(end); {
		if st := s.current.Load(); st != nil {
			st.Reset("shutdown", "shutting down")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *freezeService) serve(st *stream) {
	st.accept()
	late := time.AfterFunc(freezeIdleTime, func() { st.Reset("stalled", "freeze: no request for 10 s") })
	kind, payload, err := readRecord(st, func(byte) int { return maxFreezeBytes })
	late.Stop()
	o := parseObject(payload, "freeze: the request")
	o.number("version", 1, 1)
	forMs, paths := o.integer("forMs", minFreezeMs, maxFreezeMs), o.texts("paths", func(path string) bool {
		return filepath.IsAbs(path) && isPlain(path) && len(path) <= maxCopyPath
	})
	if err != nil || kind != freezeFreeze || *o.failed != nil || len(paths) > maxFreezePaths {
		st.Reset("protocol-error", "freeze: a record of kind %d and %d bytes is not valid", kind, len(payload))
		return
	}
	ctx, thaw := context.WithCancel(context.Background())
	st.notify(thaw, func(*failure) { thaw() })
	go func() {
		st.writeTo(io.Discard)
		thaw()
	}()
	answer := func(kind byte, result fields) {
		late := time.AfterFunc(freezeIdleTime, func() { st.Reset("stalled", "freeze: no answer is read for 10 s") })
		defer late.Stop()
		result["version"] = 1
		st.Write(record(kind, encode(result)))
	}
	result, failed := s.freeze(ctx, st, paths, time.Duration(forMs)*time.Millisecond, answer)
	if failed != nil {
		logLine(logWarn, "freeze-failed", "cannot freeze file systems: %s", failed.message)
		answer(freezeFailed, fields{"message": cut(failed.message, 1024)})
	} else {
		answer(freezeThawed, result)
	}
	st.CloseWrite()
	st.waitEnd()
}

// freeze freezes file systems until ctx is done or the time is over, and returns a THAWED.
func (s *freezeService) freeze(ctx context.Context, st *stream, paths []string, most time.Duration,
	answer func(byte, fields)) (result fields, failed *failure) {
	if !s.current.CompareAndSwap(nil, st) {
		return nil, failf("freeze-failed", "file systems are frozen already; vproxy thaw ends that")
	}
	defer s.current.Store(nil)
	if paths, failed = chooseMounts(readFile("/proc/self/mountinfo"), paths); failed != nil {
		return nil, failed
	}
	defer runHooks(context.Background(), s.hooks, "thaw")
	if failed = runHooks(ctx, s.hooks, "freeze"); failed != nil {
		return nil, failed
	}
	list := escape(strings.Join(paths, ", "), 512)
	logLine(logInfo, "freezing", "freezing %s for at most %s", list, strings.Replace(most.String(), "m0s", "m", 1))
	for tries := 0; tries == 0 || len(log.lines) > 0 && tries < 20; tries++ { // so that it is written
		time.Sleep(5 * time.Millisecond)
	}
	isFrozen.Store(true)
	defer isFrozen.Store(false)
	cause, held, failed := hold(ctx, paths, most, func() {
		history.note(&history.frozen)
		answer(freezeFrozen, fields{"paths": paths})
	})
	if failed != nil {
		return nil, failed
	}
	level, why := logInfo, "asked"
	if cause == "time" {
		level, why = logWarn, "time was over"
	} else if st.isGone() {
		why = "the stream ended"
	}
	logLine(level, "thawed", "thawed file systems after %s (%s)", formatElapsed(held), why)
	return fields{"heldMs": held, "cause": cause}, nil
}

// hold freezes file systems until ctx is done or the time is over, through a child that thaws them whatever becomes of this
// process. It calls ready once all are frozen, and returns once none is.
func hold(ctx context.Context, paths []string, most time.Duration, ready func()) (cause string, heldMs float64,
	failed *failure) {
	began, command := time.Now(), exec.Command("/proc/self/exe")
	command.Args = append([]string{freezerName, strconv.FormatInt(most.Milliseconds(), 10)}, paths...)
	command.Dir, command.SysProcAttr = "/", &syscall.SysProcAttr{Setsid: true}
	input, err := command.StdinPipe()
	var output io.Reader
	if err == nil {
		output, err = command.StdoutPipe()
	}
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return "", 0, toFailure(err, "freeze-failed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-ctx.Done()
		input.Close()
	}()
	frozen, word, rest := 0, "", ""
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if word, rest, _ = strings.Cut(lines.Text(), " "); word == "frozen" {
			frozen++
		} else if word == "ready" {
			ready()
		}
	}
	command.Wait()
	switch {
	case word == "thawed" && frozen == len(paths):
		return rest, milliseconds(time.Since(began)), nil
	case word == "thawed":
		rest = "the time was over before everything was frozen"
	case word != "failed":
		thawAll(paths[:least(frozen+1, len(paths))])
		rest = "the process that froze them was killed; all are thawed"
	}
	return "", 0, failf("freeze-failed", "%s", rest)
}

// runFreezer is the process that freezes file systems, in order. It thaws them when its time is over, at the end of its
// input, at SIGTERM, and when its parent is dead, and reports each step in a line. It must write to nothing else.
func runFreezer(args []string) int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	terminated, ended, steps := make(chan os.Signal, 1), make(chan struct{}), make(chan error)
	signal.Notify(terminated, syscall.SIGTERM)
	most, _ := strconv.Atoi(args[0])
	late := time.After(time.Duration(most) * time.Millisecond)
	// The pipe of a killed parent stays open while one of its threads waits in a write.
	parent := fmt.Sprintf("/proc/%d/stat", os.Getppid())
	looks := time.NewTicker(freezerLook)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	paths, frozen, cause := args[1:], 0, ""
	freezeNext := func() { go func(path string) { steps <- control(path, freezeRequest) }(paths[frozen]) }
	freezeNext()
	for cause == "" {
		select {
		case <-late:
			cause = "time"
		case <-ended:
			cause = "asked"
		case <-terminated:
			cause = "asked"
		case <-looks.C:
			if stat := readFile(parent); stat == "" || strings.Contains(stat, ") Z ") {
				cause = "asked"
			}
		case err := <-steps:
			if err != nil {
				thawAll(paths[:frozen])
				fmt.Printf("failed %s: %s\n", escape(paths[frozen], 200), describe(err))
				return 1
			}
			fmt.Println("frozen")
			if frozen++; frozen == len(paths) {
				fmt.Println("ready")
			} else {
				freezeNext()
			}
		}
	}
	thawAll(paths[:frozen])
	if frozen < len(paths) && <-steps == nil { // it may have waited for one of the others
		thawAll(paths[frozen : frozen+1])
	}
	fmt.Println("thawed", cause)
	return 0
}

// thawAll thaws file systems in the reverse order. It tries for 5 s, unless one is not frozen.
func thawAll(paths []string) {
	for tries, isDone := 0, false; !isDone && tries < 50; tries++ {
		isDone = true
		for index := len(paths) - 1; index >= 0; index-- {
			if err := control(paths[index], thawRequest); err != nil && !errors.Is(err, syscall.EINVAL) {
				isDone = false
			}
		}
		if !isDone {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// control freezes or thaws a file system.
func control(path string, request uintptr) error {
	folder, err := os.OpenFile(path, syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err = ioctl(folder, request, new(int32)); err == syscall.EPERM {
		return errors.New("needs CAP_SYS_ADMIN (docs/restore.md)")
	}
	return err
}

// mount is a mounted file system: a line of /proc/self/mountinfo.
type mount struct {
	device, path string
	isFreezable  bool // and may be written
}

func parseMounts(text string) (mounts []mount) {
	for _, line := range strings.Split(text, "\n") {
		before, after, _ := strings.Cut(line, " - ")
		words, more := strings.Split(before, " "), append(strings.Split(after, " "), "", "")
		if len(words) < 6 {
			continue
		}
		path, _ := strconv.Unquote(`"` + strings.ReplaceAll(words[4], `"`, `\"`) + `"`) // \040 is a space
		mounts = append(mounts, mount{words[2], path, isWord(more[0], freezableTypes) && strings.HasPrefix(more[1], "/dev/") &&
			!isAmong("ro", strings.Split(more[2], ","))})
	}
	return mounts
}

// chooseMounts returns the mount points to freeze, in order: what was mounted last is first, since it may lie on what was
// mounted before. With none wanted, these are all file systems that can be frozen and written.
func chooseMounts(mountinfo string, wanted []string) (paths []string, failed *failure) {
	mounts, ranks, visible, isTaken := parseMounts(mountinfo), map[string]int{}, map[string]string{}, map[string]bool{}
	for index := len(mounts) - 1; index >= 0; index-- {
		m := mounts[index]
		// The rank of its first mount: a bind mount may be newer than what lies on its file system. A sandbox may list a
		// loop device before the file system that it lies on.
		if ranks[m.device] = index; strings.HasPrefix(m.device, "7:") {
			ranks[m.device] += len(mounts)
		}
		if visible[m.path] == "" { // others are hidden below
			visible[m.path] = m.device
		}
	}
	for index, path := range wanted {
		if wanted[index] = filepath.Clean(path); visible[wanted[index]] == "" {
			return nil, failf("freeze-failed", "%s: not a mount point", escape(path, 200))
		}
	}
	for _, m := range mounts {
		isWanted := isAmong(m.path, wanted) || len(wanted) == 0 && m.isFreezable
		if isWanted && visible[m.path] == m.device && !isTaken[m.device] {
			isTaken[m.device] = true
			paths = append(paths, m.path)
		}
	}
	sort.Slice(paths, func(a, b int) bool { return ranks[visible[paths[a]]] > ranks[visible[paths[b]]] })
	if len(paths) == 0 {
		return nil, failf("freeze-failed", "no file system here can be frozen")
	} else if len(paths) > maxFreezePaths || len(encode(paths)) > maxFreezeBytes-64 {
		return nil, failf("freeze-failed", "too many file systems (max %d); name those to freeze", maxFreezePaths)
	}
	return paths, nil
}
