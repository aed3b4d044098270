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
	o := parseNames(payload, "freeze: the request")
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
		logLine(logWarn, "freeze-failed", "freeze of file systems failed: %s", failed.message)
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
	mounts, failed := chooseMounts(readFile("/proc/self/mountinfo"), paths)
	if failed != nil {
		return nil, failed
	}
	defer runHooks(context.Background(), s.hooks, "thaw")
	if failed = runHooks(ctx, s.hooks, "freeze"); failed != nil {
		return nil, failed
	}
	defer closeMounts(mounts)
	if failed = openMounts(mounts); failed != nil {
		return nil, failed
	}
	paths = pathsOf(mounts)
	list := escape(strings.Join(paths, ", "), 512)
	logLine(logInfo, "freezing", "freezing %s for at most %s", list, strings.Replace(most.String(), "m0s", "m", 1))
	for tries := 0; tries == 0 || len(log.lines) > 0 && tries < 20; tries++ { // so that it is written
		time.Sleep(5 * time.Millisecond)
	}
	isFrozen.Store(true)
	defer isFrozen.Store(false)
	cause, held, failed := hold(ctx, mounts, most, func() {
		history.note(&history.frozen)
		answer(freezeFrozen, fields{"paths": paths})
	})
	if failed != nil {
		return nil, failed
	}
	level, why := logInfo, "asked"
	if cause == "time" {
		level, why = logWarn, "time ran out"
	} else if st.isGone() {
		why = "the stream ended"
	}
	logLine(level, "thawed", "thawed file systems after %s (%s)", formatElapsed(held), why)
	return fields{"heldMs": held, "cause": cause}, nil
}

// hold freezes file systems until ctx is done or the time is over, through a child that thaws them whatever becomes of this
// process. Both have them open, so that this process thaws them if the child is killed. It calls ready once all are frozen,
// and returns once none is.
func hold(ctx context.Context, mounts []mount, most time.Duration, ready func()) (cause string, heldMs float64,
	failed *failure) {
	began, command := time.Now(), exec.Command("/proc/self/exe")
	command.Args = append([]string{freezerName, strconv.FormatInt(most.Milliseconds(), 10)}, pathsOf(mounts)...)
	for _, each := range mounts {
		command.ExtraFiles = append(command.ExtraFiles, each.folder)
	}
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, AmbientCaps: freezerCapabilities()}
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
		select {
		case <-ctx.Done():
			input.Close()
		case <-time.After(most):
		}
		command.Process.Signal(syscall.SIGCONT) // it may have been stopped
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
	isSignalled := word == "thawed" && rest == "asked" && ctx.Err() == nil // by somebody else
	switch {
	case word == "thawed" && frozen == len(mounts) && !isSignalled:
		return rest, milliseconds(time.Since(began)), nil
	case word == "thawed" && !isSignalled:
		rest = "time ran out before everything was frozen"
	case word != "failed":
		rest = thawAll(mounts[:least(frozen+1, len(mounts))], false)
		if rest == "" {
			rest = "all are thawed"
		}
		rest = "the process that froze them was killed; " + rest
	}
	return "", 0, failf("freeze-failed", "%s", rest)
}

// runFreezer is the process that freezes file systems, in order: its descriptors from 3 on. It thaws them when its time is
// over, at the end of its input, at SIGTERM, and when its parent is dead, and reports each step in a line. It must write to
// nothing else.
func runFreezer(args []string) int {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	terminated, ended, steps := make(chan os.Signal, 1), make(chan struct{}), make(chan error)
	signal.Notify(terminated, syscall.SIGTERM)
	most, _ := strconv.Atoi(args[0])
	late := time.After(time.Duration(most) * time.Millisecond)
	// The pipe of a killed parent stays open while one of its threads waits in a write, and its number stays in use.
	parent := fmt.Sprintf("/proc/%d/stat", os.Getppid())
	looks := time.NewTicker(freezerLook)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	mounts, frozen, cause := []mount{}, 0, ""
	for index, path := range args[1:] {
		mounts = append(mounts, mount{path: path, folder: os.NewFile(uintptr(3+index), path)})
	}
	freezeNext := func() { go func(each mount) { steps <- each.control(freezeRequest) }(mounts[frozen]) }
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
				why := escape(mounts[frozen].path, 200) + ": " + describe(err)
				if left := thawAll(mounts[:frozen], true); left != "" {
					why += "; " + left
				}
				fmt.Println("failed", why)
				return 1
			}
			fmt.Println("frozen")
			frozen++
			if frozen == len(mounts) {
				fmt.Println("ready")
			} else {
				freezeNext()
			}
		}
	}
	why := thawAll(mounts[:frozen], true)
	if frozen < len(mounts) && <-steps == nil { // it may have waited for one of the others
		why += thawAll(mounts[frozen:frozen+1], true)
	}
	if why != "" {
		fmt.Println("failed", why)
		return 1
	}
	fmt.Println("thawed", cause)
	return 0
}

// thawAll thaws file systems in the reverse order, for 5 s, and returns which ones it could not thaw. If all must be frozen,
// these include one that another program has thawed.
func thawAll(mounts []mount, mustBeFrozen bool) (why string) {
	for tries := 0; len(mounts) > 0; tries++ {
		var rest []mount
		for index := len(mounts) - 1; index >= 0; index-- {
			each := mounts[index]
			err := each.control(thawRequest)
			isOther := errors.Is(err, syscall.EINVAL) // not frozen
			switch {
			case err == nil || isOther && !mustBeFrozen:
			case isOther:
				why += "; " + escape(each.path, 200) + ": another program had thawed it"
			case tries == 50:
				why += "; " + escape(each.path, 200) + ": still frozen: " + describe(err)
			default:
				rest = append([]mount{each}, rest...)
			}
		}
		if mounts = rest; len(mounts) > 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
	return strings.TrimPrefix(why, "; ")
}

// mount is a mounted file system: a line of /proc/self/mountinfo.
type mount struct {
	id, device, path string
	isFreezable      bool     // and may be written
	folder           *os.File // nil: not open
}

// control freezes or thaws it, through its descriptor: its path may lead elsewhere by now.
func (m mount) control(request uintptr) error {
	err := ioctl(m.folder, request, new(int32))
	if err == syscall.EPERM {
		return errors.New("needs CAP_SYS_ADMIN (docs/restore.md)")
	}
	return err
}

// openMounts opens mount points, each of which must still be the one of the table.
func openMounts(mounts []mount) *failure {
	for index := range mounts {
		each := &mounts[index]
		var err error
		if each.folder, err = os.OpenFile(each.path, syscall.O_DIRECTORY, 0); err != nil {
			return failf("freeze-failed", "%s: %s", escape(each.path, 200), describe(err))
		}
		info := readFile(fmt.Sprintf("/proc/self/fdinfo/%d", each.folder.Fd()))
		if id := found(`^mnt_id:\s*(\d+)$`, info); id != "" && id != each.id { // none before Linux 3.15
			return failf("freeze-failed", "%s: mounts have just changed", escape(each.path, 200))
		}
	}
	return nil
}

func closeMounts(mounts []mount) {
	for _, each := range mounts {
		each.folder.Close()
	}
}

func pathsOf(mounts []mount) (paths []string) {
	for _, each := range mounts {
		paths = append(paths, each.path)
	}
	return paths
}

func parseMounts(text string) (mounts []mount) {
	for _, line := range strings.Split(text, "\n") {
		before, after, _ := strings.Cut(line, " - ")
		words, more := strings.Split(before, " "), append(strings.Split(after, " "), "", "")
		if len(words) < 6 {
			continue
		}
		path, _ := strconv.Unquote(`"` + strings.ReplaceAll(words[4], `"`, `\"`) + `"`) // \040 is a space
		mounts = append(mounts, mount{id: words[0], device: words[2], path: path,
			isFreezable: isWord(more[0], freezableTypes) && strings.HasPrefix(more[1], "/dev/") &&
				!isAmong("ro", strings.Split(more[2], ","))})
	}
	return mounts
}

// chooseMounts returns the mount points to freeze, in order: what was mounted last is first, since it may lie on what was
// mounted before. With none wanted, these are all file systems that can be frozen and written.
func chooseMounts(mountinfo string, wanted []string) (chosen []mount, failed *failure) {
	mounts, ranks, visible, isTaken := parseMounts(mountinfo), map[string]int{}, map[string]mount{}, map[string]bool{}
	for index := len(mounts) - 1; index >= 0; index-- {
		m := mounts[index]
		// The rank of its first mount: a bind mount may be newer than what lies on its file system. A sandbox may list a
		// loop device before the file system that it lies on.
		ranks[m.device] = index
		if strings.HasPrefix(m.device, "7:") {
			ranks[m.device] += len(mounts)
		}
		if visible[m.path].id == "" { // others are hidden below
			visible[m.path] = m
		}
	}
	for index, path := range wanted {
		if wanted[index] = filepath.Clean(path); visible[wanted[index]].id == "" {
			return nil, failf("freeze-failed", "%s: not a mount point", escape(path, 200))
		}
	}
	for _, m := range mounts {
		isWanted := isAmong(m.path, wanted) || len(wanted) == 0 && m.isFreezable
		if isWanted && visible[m.path] == m && !isTaken[m.device] {
			isTaken[m.device] = true
			chosen = append(chosen, m)
		}
	}
	sort.Slice(chosen, func(a, b int) bool { return ranks[chosen[a].device] > ranks[chosen[b].device] })
	if len(chosen) == 0 {
		return nil, failf("freeze-failed", "no file system here can be frozen")
	}
	if len(chosen) > maxFreezePaths || len(encode(pathsOf(chosen))) > maxFreezeBytes-64 {
		return nil, failf("freeze-failed", "too many file systems (max %d); name those to freeze", maxFreezePaths)
	}
	return chosen, nil
}
