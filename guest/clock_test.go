package main

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair returns two channels that are connected; the second one offers no service.
func pair(t *testing.T) (machine, host *channel) {
	one, other := net.Pipe()
	open := func(conn net.Conn) *channel {
		spec, _ := parseChannel("unix-connect:/test")
		c := newChannel(spec, "")
		go c.serve(conn)
		t.Cleanup(c.stop)
		return c
	}
	return open(one), open(other)
}

func openStream(t *testing.T, c *channel, service string) *stream {
	st, failed := c.open(service, "", 10*time.Second)
	if failed != nil {
		t.Fatal(failed)
	}
	limit(t, "a stream to "+service+" is open", func() { st.Reset("cancelled", "the test is late") })
	return st
}

// limit has the test fail after a minute in which something has not ended, and ends it: otherwise the test might wait for ever.
func limit(t *testing.T, what string, end func()) {
	late := time.AfterFunc(time.Minute, func() {
		t.Error("after a minute " + what)
		end()
	})
	t.Cleanup(func() { late.Stop() })
}

// told is the answer of a host that is exact, but for what is given.
func told(more fields) []byte {
	answer := fields{"version": 1, "timeMs": float64(time.Now().UnixMicro()) / 1000, "upMs": upTime(), "host": "a"}
	for name, value := range more {
		answer[name] = value
	}
	return record(clockTold, encode(answer))
}

// newTestClock returns a service that notes what it does.
func newTestClock(option string) (s *clockService, done *[]string) {
	o, done := new(options), new([]string)
	if option == "--reseed" {
		o.setReseed("")
	} else if failed := o.setClock(option); failed != nil {
		panic(failed)
	}
	o.clock.step = func(by float64) error { *done = append(*done, fmt.Sprintf("step %.0f", by)); return nil }
	o.clock.reseed = func(entropy []byte) error {
		*done = append(*done, fmt.Sprintf("reseed %d", len(entropy)))
		return nil
	}
	o.clock.hooks = "/nonexistent"
	return o.clock, done
}

// exchange has a service measure, with a host that gives the same answer to each question.
func exchange(s *clockService, answer func() []byte) error {
	machine, host := net.Pipe()
	go func() {
		for {
			if _, _, err := readRecord(host, func(byte) int { return maxClockBytes }); err != nil {
				return
			}
			host.Write(answer())
		}
	}()
	defer machine.Close()
	return s.measure(machine)
}

func TestCause(t *testing.T) {
	before := &clockSample{offset: 10, uncertainty: 5, hostUp: 1000, up: 500, host: "a", seq: 6}
	for want, now := range map[string]*clockSample{
		"none":           {offset: 1020, uncertainty: 5, hostUp: 3000, up: 2500, host: "a", seq: 7, seen: 6},
		"restored, seen": {offset: 10, uncertainty: 5, hostUp: 3000, up: 2500, host: "a", seq: 7, seen: 7},
		"restored, host": {offset: 1021, uncertainty: 5, hostUp: 3000, up: 2500, host: "b", seq: 7},
		"new-host":       {offset: -1000, uncertainty: 5, hostUp: 3000, up: 2500, host: "b", seq: 7},
		"paused":         {offset: 9000, uncertainty: 5, hostUp: 9000, up: 2500, host: "a", seq: 7, seen: 6},
		"host-clock":     {offset: -1001, uncertainty: 5, hostUp: 3000, up: 2500, host: "a", seq: 7, seen: 6},
	} {
		if want, _, _ = strings.Cut(want, ","); causeOf(before, now, 1000) != want || causeOf(nil, now, 1000) != "start" {
			t.Error(want, causeOf(before, now, 1000))
		}
	}
}

func TestClockOption(t *testing.T) {
	for text, want := range map[string]string{
		"": "1.0 s, 86400.0 s", "50ms": "50 ms, 86400.0 s", "500ms,back=1h": "500 ms, 3600.0 s", ",back=no": "1.0 s, 0 ms",
		"1m,back=48h": "60.0 s, 172800.0 s", "49ms": "", "2": "", "-1s": "", "1.5s": "", "1s,back=": "", "1s,back=2": "",
		"1s,back=no,back=1h": "", "1s,forward=1h": "", "1s,": "", "x": "", "999999999999h": "",
	} {
		o := new(options)
		err := o.setClock(text)
		got := formatElapsed(o.clock.threshold) + ", " + formatElapsed(o.clock.maxBack)
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for text, want := range map[string]bool{"--reseed --follow-clock": true, "--follow-clock=2s --reseed": true, "--reseed": false} {
		o, err := parseOptions(strings.Fields("-c stdio: " + text))
		if err != nil || o.clock.follows != want {
			t.Error(text, err)
		}
	}
}

// TestFollow: what a machine does about a host whose clock is off.
func TestFollow(t *testing.T) {
	entropy := strings.Repeat("0f", entropyBytes)
	for name, each := range map[string]struct {
		option string
		off    float64 // ms
		want   string
	}{
		"exact":           {"", 0, "reseed 64"},
		"ahead":           {"", 90_000, "reseed 64, step 90000"},
		"within":          {"2m", 90_000, "reseed 64"},
		"behind":          {"", -3_600_000, "reseed 64, step -3600000"},
		"behind, bound":   {"1s,back=1h", -3_610_000, "reseed 64"},
		"behind, no":      {",back=no", -3000, "reseed 64"},
		"reseed":          {"--reseed", 90_000, "reseed 64"},
		"in a far future": {"", math.NaN(), "reseed 64, step far"},
	} {
		s, done := newTestClock(each.option)
		s.step = func(by float64) error {
			text := fmt.Sprintf("step %.0f", math.Round(by/1000)*1000)
			if by > 1e13 {
				text = "step far"
			}
			*done = append(*done, text)
			return nil
		}
		more := fields{"entropy": entropy, "timeMs": float64(time.Now().UnixMilli()) + each.off}
		if math.IsNaN(each.off) {
			more["timeMs"] = maxClockTime
		}
		err := exchange(s, func() []byte { return told(more) })
		if got := strings.Join(*done, ", "); got != each.want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// TestClockPause: a host that says something else each time has the clock set at most three times in 30 s (R-CLOCK-5).
func TestClockPause(t *testing.T) {
	s, done := newTestClock("")
	off := 0.0
	measure := func(want int) {
		t.Helper()
		off += 60_000
		err := exchange(s, func() []byte {
			return told(fields{"timeMs": float64(time.Now().UnixMilli()) + off, "entropy": strings.Repeat("0f", 64), "seen": 1e13})
		})
		if steps := strings.Count(strings.Join(*done, ""), "step"); steps != want || err != nil {
			t.Error(*done, err)
		}
	}
	for count := 1; count <= clockChanges; count++ {
		measure(count)
	}
	measure(clockChanges)
	s.changedAt[0] = s.changedAt[0].Add(-clockPeriod + time.Second)
	measure(clockChanges)
	s.changedAt[0] = s.changedAt[0].Add(-time.Second)
	measure(clockChanges + 1)
	if at := stepClock(maxClockTime); at != syscall.EINVAL {
		t.Error(at)
	}
}

// TestClockBack: steps back are limited in all; steps forward and a slow drift of the clock are not counted.
func TestClockBack(t *testing.T) {
	s, done := newTestClock("1s,back=1m")
	for _, each := range []struct {
		offset, days float64
		steps        bool
	}{{-50, 0, true}, {-50, 0, false}, {-9, 0, true}, {20, 0, true}, {-25, 0, false}, {-20, 0, true}, {3600, 0, true},
		{-61, 0, false}, {-59.9, 0, true}, {-44, 1, false}, {-40, 0, true}, {-40, 0, false}} {
		s.backAt = s.backAt.Add(-time.Duration(each.days * float64(24*time.Hour)))
		count := len(*done)
		s.follow("host-clock", &clockSample{offset: 1000 * each.offset}, nil)
		if steps := len(*done) > count; steps != each.steps {
			t.Error(each, s.back)
		}
	}
}

// TestHostileClock: a host that breaks the rules loses its stream, and changes nothing.
func TestHostileClock(t *testing.T) {
	for name, answer := range map[string][]byte{
		"no object":      record(clockTold, []byte("[]")),
		"too long":       record(clockTold, make([]byte, maxClockBytes+1)),
		"version":        told(fields{"version": 2}),
		"no version":     told(fields{"version": nil}),
		"time, negative": told(fields{"timeMs": -1}),
		"time, far":      told(fields{"timeMs": 1e15}),
		"time, text":     told(fields{"timeMs": "now"}),
		"time, infinite": record(clockTold, []byte(`{"version":1,"timeMs":1e999,"upMs":1,"host":"a"}`)),
		"uptime":         told(fields{"upMs": -1}),
		"no host":        told(fields{"host": ""}),
		"long host":      told(fields{"host": strings.Repeat("é", 65)}),
		"seen":           told(fields{"seen": 1.5}),
		"short entropy":  told(fields{"entropy": strings.Repeat("0", 126)}),
		"long entropy":   told(fields{"entropy": strings.Repeat("0", 130)}),
		"empty entropy":  told(fields{"entropy": ""}),
		"upper case":     told(fields{"entropy": strings.Repeat("AF", 64)}),
		"not hex":        told(fields{"entropy": strings.Repeat("x", 128)}),
	} {
		s, done := newTestClock("")
		err := exchange(s, func() []byte { return answer })
		if failed := toFailure(err, "none"); failed == nil || failed.code != "protocol-error" || len(*done) > 0 {
			t.Errorf("%s: %v, %v", name, err, *done)
		}
	}
}

// TestClockStreams: a second stream resets the first (R-CLOCK-1), other kinds of records are skipped, hooks hold up no stream,
// and the process that a hook leaves behind does not hold up the hooks.
func TestClockStreams(t *testing.T) {
	s, done := newTestClock("")
	s.hooks = t.TempDir()
	out := s.hooks + "/out.txt"
	script := "#!/bin/sh\n(sleep 100 & echo $! > " + out + ".pid)\necho $VPROXY_REASON $VPROXY_OFFSET_MS > " + out + "\nsleep 1\n"
	os.WriteFile(s.hooks+"/10-note", []byte(script), 0o700)
	machine, host := pair(t)
	machine.services["clock"] = s.serve
	silent := openStream(t, host, "clock")
	readRecord(silent, func(byte) int { return maxClockBytes })
	for count, restored := range []any{nil, 1e13} {
		st, began := openStream(t, host, "clock"), time.Now()
		for {
			_, payload, err := readRecord(st, func(byte) int { return maxClockBytes })
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if ask := string(payload); count == 0 && !strings.Contains(ask, `"version":1`) {
				t.Error(ask)
			}
			st.Write(record(99, []byte("later")))
			st.Write(told(fields{"seen": restored, "timeMs": float64(time.Now().UnixMilli()) + 60_000}))
		}
		st.CloseWrite()
		st.waitEnd()
		if time.Since(began) > 900*time.Millisecond {
			t.Error("a stream waited for hooks")
		}
	}
	silent.waitEnd()
	if silent.reason == nil || silent.reason.code != "cancelled" || len(*done) != 2 {
		t.Error(silent.reason, *done)
	}
	for tries := 0; tries < 100 && !exists(out); tries++ {
		time.Sleep(50 * time.Millisecond)
	}
	began := time.Now()
	s.hooking.Lock()
	if text := readFile(out); !strings.HasPrefix(text, "restored ") || time.Since(began) > 10*time.Second {
		t.Errorf("%q, %s", text, time.Since(began))
	}
	pid := int(number(readFile(out+".pid"), 0))
	if err := syscall.Kill(pid, syscall.SIGTERM); pid == 0 || err != nil {
		t.Error("the process in the background is gone:", pid, err)
	}
}
