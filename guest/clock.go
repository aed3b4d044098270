package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"
	"unsafe"
)

const (
	clockSamples  = 5
	clockChanges  = 3 // at most in clockPeriod, whatever the host says (R-CLOCK-5)
	clockPeriod   = 30 * time.Second
	leastClock    = 50 * time.Millisecond
	mostClockBack = 24 * time.Hour
	backDrift     = 500e-6 // not counted: a clock that runs too fast is set back again and again
	maxClockTime  = 1e14   // ms (R-CLOCK-2)
)

// clockService sets this machine's clock to its host's after a pause or a restore, takes random numbers, and runs hooks
// (docs/restore.md). Times are in milliseconds.
type clockService struct {
	follows            bool // otherwise the clock is left alone
	threshold, maxBack float64
	hooks              string // a folder
	run                string // identifies this process
	step               func(by float64) error
	reseed             func(entropy []byte) error

	newest  atomic.Pointer[stream]
	hooking mutex // held while hooks run

	mutex     // guards what follows; one measurement at a time
	before    *clockSample
	changedAt [clockChanges]time.Time // the oldest first
	seq       float64                 // of the last ASK
	restored  bool                    // and not acted on yet: a host knows a later ASK only once
	complaint string                  // the last one in the log
	back      float64                 // by how much steps have set the clock back, less what later ones moved it forward
	backAt    time.Time               // when that was
}

// clockSample is one measurement (R-CLOCK-4).
type clockSample struct {
	offset, uncertainty float64 // the host's clock minus this one's; half of the round trip
	hostUp, up          float64
	host                string
	seq, seen           float64 // of the ASK, and of the last one that the host knew before; 0: none
	entropy             []byte
}

func newClockService(follows bool, threshold, maxBack time.Duration) *clockService {
	return &clockService{follows: follows, threshold: milliseconds(threshold), maxBack: milliseconds(maxBack),
		hooks: "/etc/vproxy/restored.d", run: newNonce(), step: stepClock, reseed: reseed}
}

// setClock allows the peer to set the clock: [THRESHOLD][,back=TIME].
func (o *options) setClock(value string) error {
	first, back, hasBack := strings.Cut(value, ",back=")
	threshold, maxBack := usualThreshold, mostClockBack
	isRight := (first == "" || parseDuration(&threshold, first) && threshold >= leastClock) &&
		(!hasBack || back == "no" || parseDuration(&maxBack, back))
	if back == "no" {
		maxBack = 0
	}
	o.clock = newClockService(true, threshold, maxBack)
	if !isRight {
		return failf("bad-argument", "--follow-clock: expected a time of at least 50 ms, and how far back: 1s,back=1h, or "+
			"500ms,back=no")
	}
	return nil
}

// setReseed allows the peer to send random numbers, which it may anyway if it may set the clock.
func (o *options) setReseed(string) error {
	if o.clock == nil {
		o.clock = newClockService(false, usualThreshold, 0)
	}
	return nil
}

// serve makes a measurement. It resets the stream of one in progress (R-CLOCK-1).
func (s *clockService) serve(st *stream) {
	st.accept()
	if before := s.newest.Swap(st); before != nil {
		before.Reset("cancelled", "clock: another stream follows")
	}
	if failed := toFailure(s.measure(st), "protocol-error"); failed != nil {
		st.Reset(failed.code, "%s", failed.message)
	}
	st.CloseWrite()
	st.drain()
}

func (s *clockService) measure(host io.ReadWriter) error {
	defer s.lock()()
	isDue := time.Since(s.changedAt[0]) >= clockPeriod
	first, err := s.ask(host, isDue)
	if err != nil {
		return err
	}
	cause := causeOf(s.before, first, s.threshold)
	if s.restored {
		cause = "restored"
	}
	if isDue || cause == "none" {
		s.before = first
	}
	s.restored = cause == "restored"
	if !isDue || cause == "none" && math.Abs(first.offset) <= s.threshold {
		return nil
	}
	best := first
	for count := 1; count < clockSamples; count++ {
		next, err := s.ask(host, false)
		if err != nil {
			return err
		}
		if next.uncertainty < best.uncertainty {
			best = next
		}
	}
	s.follow(cause, best, first.entropy)
	return nil
}

// ask makes one measurement.
func (s *clockService) ask(host io.ReadWriter, wantsEntropy bool) (*clockSample, error) {
	s.seq++
	sent, up := time.Now(), upTime()
	host.Write(record(clockAsk, encode(fields{"version": 1, "run": s.run, "seq": s.seq, "entropy": wantsEntropy})))
	for {
		kind, payload, err := readRecord(host, func(byte) int { return maxClockBytes })
		switch {
		case err == io.EOF:
			return nil, failf("protocol-error", "clock: the host ended the stream without an answer")
		case err != nil:
			return nil, err
		case kind != clockTold:
			continue
		}
		half, o := (upTime()-up)/2, parseObject(payload, "clock: the answer")
		o.number("version", 1, 1)
		now := &clockSample{uncertainty: half, hostUp: o.number("upMs", 0, maxClockTime), up: up + half, host: o.text("host"),
			offset: o.number("timeMs", 0, maxClockTime) - float64(sent.UnixMicro())/1000 - half, seq: s.seq}
		if o.has("seen") {
			now.seen = float64(o.integer("seen", 1, 1<<53-1))
		}
		if o.has("entropy") {
			now.entropy, _ = hex.DecodeString(o.text("entropy"))
			o.require(isHex(o.text("entropy"), 2*entropyBytes), "entropy", "is not valid")
		}
		o.require(now.host != "" && utf8.RuneCountInString(now.host) <= 64, "host", "is empty or too long")
		if *o.failed != nil {
			return nil, *o.failed
		}
		return now, nil
	}
}

// causeOf compares a measurement with the one before it, as vproxy does (R-CLOCK-4).
func causeOf(before, now *clockSample, threshold float64) string {
	if before == nil {
		return "start"
	}
	tolerance := threshold + now.uncertainty + before.uncertainty
	hasMoved := math.Abs(now.offset-before.offset) > tolerance
	switch {
	case now.seen >= now.seq, now.host != before.host && hasMoved:
		return "restored"
	case now.host != before.host:
		return "new-host"
	case now.hostUp-before.hostUp-(now.up-before.up) > tolerance:
		return "paused"
	case hasMoved:
		return "host-clock"
	}
	return "none"
}

// follow acts on a measurement: random numbers first, since programs that the new time wakes may need them.
func (s *clockService) follow(cause string, now *clockSample, entropy []byte) {
	copy(s.changedAt[:], s.changedAt[1:])
	s.changedAt[clockChanges-1] = time.Now()
	if entropy != nil && isWord(cause, "start restored new-host") {
		s.attempt("random numbers", "CAP_SYS_ADMIN", s.reseed(entropy))
	}
	by, stepped := now.offset, 0.0
	isOff := s.follows && math.Abs(by) > s.threshold+now.uncertainty
	back := math.Max(0, s.back-milliseconds(time.Since(s.backAt))*backDrift) - by
	if isOff && by < 0 && back > s.maxBack {
		s.complain(fmt.Sprintf("the clock is %s ahead of the host's, and may be set back by at most %s in all", formatElapsed(-by),
			formatElapsed(s.maxBack)))
	} else if isOff && s.attempt("the clock", "CAP_SYS_TIME", s.step(by)) {
		stepped, s.before, now.offset = by, now, 0
		s.back, s.backAt = math.Max(0, back), time.Now()
		history.noteStep(by)
		direction := either(by < 0, "back", "forward")
		logLine(logInfo, "clock-stepped", "set the clock %s %s (%s)", formatElapsed(math.Abs(by)), direction, cause)
	}
	if cause == "restored" {
		s.restored = false
		history.note(&history.restored)
		go func() { // since a host resets a stream that lasts 10 s
			defer s.hooking.lock()()
			waitForThaw() // if the snapshot was made while file systems were frozen
			runHooks(context.Background(), s.hooks, "", "VPROXY_REASON="+cause, fmt.Sprintf("VPROXY_OFFSET_MS=%.0f", stepped))
		}()
	}
}

// attempt reports whether something worked, and logs why not.
func (s *clockService) attempt(what, capability string, err error) bool {
	if err == nil {
		s.complaint = ""
	} else if errors.Is(err, syscall.EPERM) {
		s.complain("cannot set " + what + ": needs " + capability + " (docs/restore.md)")
	} else {
		s.complain("cannot set " + what + ": " + describe(err))
	}
	return err == nil
}

func (s *clockService) complain(text string) {
	if text != s.complaint {
		logLine(logWarn, "clock-failed", "%s", text)
	}
	s.complaint = text
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// upTime is CLOCK_MONOTONIC, which stands still while the machine is paused.
func upTime() float64 {
	var now syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&now)), 0)
	return float64(now.Nano()) / 1e6
}

// stepClock moves the time of day.
func stepClock(by float64) error {
	at := time.Now().UnixMicro() + int64(by*1000)
	now := syscall.NsecToTimeval(least(at, math.MaxInt64/1000) * 1000)
	if now.Nano()/1000 != at { // does not fit; some processors have 32 bits for it
		return syscall.EINVAL
	}
	return syscall.Settimeofday(&now)
}

// reseed adds random bytes to the kernel's pool, and has it use them.
func reseed(entropy []byte) error {
	file, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	pool := [2 + entropyBytes/4]int32{8 * entropyBytes, entropyBytes} // rand_pool_info
	copy((*[entropyBytes]byte)(unsafe.Pointer(&pool[2]))[:], entropy)
	if err = ioctl(file, addEntropy, &pool); err == nil {
		err = ioctl(file, reseedPool, &pool)
	}
	return err
}
