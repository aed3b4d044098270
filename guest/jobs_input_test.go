package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// writing is the caller's end of an ATTACH with input.
type writing struct {
	reading
	t      *testing.T
	st     *stream
	credit int
	grants []int
}

// keep starts a job that has an input, in a terminal if that is wanted.
func keep(t *testing.T, host *channel, hasTerminal bool, more fields, argv ...string) (id string) {
	t.Helper()
	request := fields{"argv": argv, "hasInput": true, "detach": fields{}}
	if hasTerminal {
		request["terminal"] = fields{"columns": 80, "rows": 24, "term": "dumb"}
	}
	for name, value := range more {
		request[name] = value
	}
	st, started := ask(t, host, execStart, request, execStarted)
	st.CloseWrite()
	return started.text("job")
}

// write attaches to a job as its writer, and waits for its first CREDIT.
func write(t *testing.T, host *channel, request fields) *writing {
	t.Helper()
	request["input"] = true
	st, place := ask(t, host, execAttach, request, execFrom)
	w := &writing{t: t, st: st, reading: reading{next: place.integer("from", 0, maxInteger)}}
	w.until(func() bool { return len(w.grants) > 0 })
	return w
}

// until reads records until a condition holds, or EXIT.
func (w *writing) until(isSo func() bool) {
	w.t.Helper()
	for !isSo() && w.exit == nil {
		kind, payload, err := readRecord(w.st, func(byte) int { return outputBytes })
		switch {
		case err != nil:
			w.t.Fatal(err)
		case kind == execStdout:
			w.data = append(w.data, payload...)
		case kind == execCredit:
			w.grants = append(w.grants, int(binary.BigEndian.Uint32(payload)))
			w.credit += w.grants[len(w.grants)-1]
		case kind == execExit:
			w.exit = parseObject(payload, "").fields
		default:
			w.t.Fatalf("%d: %s", kind, payload)
		}
	}
}

func isNever() bool { return false }

func (w *writing) has(text string) {
	w.t.Helper()
	w.until(func() bool { return strings.Contains(string(w.data), text) })
	if w.exit != nil {
		w.t.Fatal(w.exit, string(w.data))
	}
}

// leave detaches the writer once there is this output.
func (w *writing) leave(text string) {
	w.has(text)
	w.st.CloseWrite()
	w.st.waitEnd()
}

func (w *writing) send(text string) {
	w.credit -= len(text)
	w.st.Write(record(execStdin, []byte(text)))
}

// refusal reads to EXIT, and returns its error.
func (w *writing) refusal() *failure {
	w.t.Helper()
	w.until(isNever)
	return object{fields: w.exit, failed: new(*failure)}.object("error").reason()
}

func isWritten(e *execService, id string) bool {
	j := lookUp(e, id)
	defer j.lock()()
	return j.writer != nil
}

// TestKeptTerminal: a terminal outlives its writers, which resize it, type and send signals; who comes back misses nothing.
func TestKeptTerminal(t *testing.T) {
	e, host := newTestExec(t)
	id := keep(t, host, true, nil, "sh", "-c", `trap "stty size" WINCH; trap "echo caught" USR1; stty -echo; echo ready; while :; do read line && echo "got $line"; done`)
	w := write(t, host, fields{"id": id})
	w.has("ready\r\n")
	if entry := listJobs(t, host)[0].fields; entry["terminal"] != true || entry["takesInput"] != true || entry["hasWriter"] != true {
		t.Error(entry)
	}
	w.st.Write(record(execResize, []byte{0, 100, 0, 30}))
	w.has("30 100\r\n")
	w.st.Write(record(execEof, []byte{1}))
	w.st.Write(record(execEof, []byte{2}))
	w.send("one\n")
	w.has("got one\r\n")
	w.st.Write(record(execSignal, []byte("SIGUSR1")))
	w.has("caught\r\n")
	w.send("two\n")
	w.st.CloseWrite()
	w.st.waitEnd()
	if w.st.reason != nil || isWritten(e, id) {
		t.Error(w.st.reason)
	}
	w = write(t, host, fields{"id": id, "from": 0, "columns": 120, "rows": 40})
	w.has("got two\r\n")
	w.has("40 120\r\n")
	w.send("three\n")
	w.has("got three\r\n")
	if text := string(w.data); !strings.HasPrefix(text, "ready\r\n") || strings.Count(text, "got") != 3 || w.credit < execCreditBytes-100 {
		t.Errorf("%q, %d", text, w.credit)
	}
	stopJob(t, host, fields{"id": id, "killAfterMs": 0})
	w.until(isNever)
	if w.exit["signal"] == nil || isWritten(e, id) {
		t.Error(w.exit)
	}
	w.send("after the end")
	st, r := attach(t, host, fields{"id": id, "input": true, "steal": true, "columns": 1, "rows": 1})
	if err := r.read(st, 1<<20); err != nil || !bytes.Equal(r.data, w.data) || r.exit["signal"] == nil { // CREDIT would be an error
		t.Error(err, r.exit)
	}
}

// TestInputEnds: EOF of a writer ends the input for good. It may send no more; what others send is dropped.
func TestInputEnds(t *testing.T) {
	_, host := newTestExec(t)
	id := keep(t, host, false, nil, "sh", "-c", "cat; echo over; sleep 1000")
	w := write(t, host, fields{"id": id})
	w.send("text ")
	w.st.Write(record(execEof, []byte{0}))
	w.has("text over\n")
	if entry := listJobs(t, host)[0].fields; entry["terminal"] != false || entry["takesInput"] != false || entry["hasWriter"] != true {
		t.Error(entry)
	}
	w.st.Write(record(execStdin, []byte("more")))
	w.st.waitEnd()
	if w.st.reason == nil || w.st.reason.code != "protocol-error" {
		t.Error(w.st.reason)
	}
	w = write(t, host, fields{"id": id})
	for sent := 0; sent < 2*execCreditBytes; sent += 4096 {
		w.until(func() bool { return w.credit >= 4096 })
		w.send(strings.Repeat("x", 4096))
	}
	w.st.Write(record(execEof, []byte{0}))
	w.st.Write(record(execSignal, []byte("SIGTERM")))
	w.until(isNever)
	if w.exit["signal"] != "SIGTERM" || string(w.data) != "text over\n" {
		t.Error(w.exit, string(w.data))
	}
	// Of a terminal, it is typed.
	w = write(t, host, fields{"id": keep(t, host, true, nil, "sh", "-c", "cat; echo over")})
	w.st.Write(record(execEof, []byte{0}))
	w.until(isNever)
	if fmt.Sprint(w.exit["status"]) != "0" {
		t.Error(w.exit)
	}
	for _, request := range []fields{{"hasInput": false}, {"hasInput": nil}} {
		id = keep(t, host, false, request, "sh", "-c", "cat; sleep 1000")
		_, exit := ask(t, host, execAttach, fields{"id": id, "input": true}, execExit)
		if failed := exit.object("error").reason(); failed.code != "bad-argument" {
			t.Error(failed)
		}
	}
	// Nobody types an end into a terminal without an input.
	w.t, id = t, keep(t, host, true, fields{"hasInput": false}, "sh", "-c", "echo ready; read line; echo over")
	st, r := attach(t, host, fields{"id": id})
	if err := r.read(st, 7); err != nil || string(r.data) != "ready\r\n" {
		t.Error(err, string(r.data))
	}
	if exit := stopJob(t, host, fields{"id": id}); exit["signal"] != "SIGTERM" {
		t.Error(exit)
	}
}

// TestTakeover: a job has one writer; another one is refused, unless it steals.
func TestTakeover(t *testing.T) {
	e, host := newTestExec(t)
	id := keep(t, host, false, nil, "cat")
	first := write(t, host, fields{"id": id})
	_, exit := ask(t, host, execAttach, fields{"id": id, "input": true}, execExit)
	if failed := exit.object("error").reason(); failed.code != "input-taken" {
		t.Error(failed)
	}
	first.send("first ")
	first.has("first ")
	second := write(t, host, fields{"id": id, "steal": true})
	second.has("first ")
	if failed := first.refusal(); failed.code != "input-taken" || !strings.Contains(failed.message, "another caller took over the input") {
		t.Error(failed)
	}
	first.send("ignored ")
	first.st.Write(record(99, []byte("too")))
	first.st.CloseWrite()
	first.st.waitEnd()
	if first.st.reason != nil || !isWritten(e, id) {
		t.Error(first.st.reason)
	}
	second.send("second ")
	second.has("first second ")
	// What came before a reset, or is only a part of a record, counts.
	second.send("third ")
	second.st.Write(record(execStdin, []byte("fourth and more"))[:recordHeaderBytes+6])
	second.st.Close()
	until(t, "nobody writes", func() bool { return !isWritten(e, id) })
	third := write(t, host, fields{"id": id})
	third.has("first second third fourth")
	third.st.Write(record(execStdin, []byte(" fifth"))[:recordHeaderBytes+4])
	third.st.CloseWrite()
	third.st.waitEnd()
	if third.st.reason != nil {
		t.Error(third.st.reason)
	}
	st, r := attach(t, host, fields{"id": id})
	if err := r.read(st, 29); err != nil || string(r.data) != "first second third fourth fif" {
		t.Error(err, string(r.data))
	}
	// Who comes as another one leaves is not refused, and comes after what that sent.
	const rounds, text = 200, 1000
	for count := 0; count < rounds; count++ {
		st, _ := ask(t, host, execAttach, fields{"id": id, "input": true, "tail": 0}, execFrom)
		st.Write(record(execStdin, []byte(strings.Repeat("x", text))))
		if count%2 == 0 {
			st.CloseWrite()
		} else {
			st.Close()
		}
	}
	if err := r.read(st, 29+rounds*text); err != nil {
		t.Error(err, len(r.data))
	}
}

// TestInputCredit: input that a command does not read holds up nobody, and is bounded over all writers.
func TestInputCredit(t *testing.T) {
	e, host := newTestExec(t)
	id := keep(t, host, false, nil, "sh", "-c", "trap 'cat; exit 0' USR1; echo ready; while :; do sleep 0.1; done")
	const large = 100_000 // more than a pipe holds
	write(t, host, fields{"id": id}).leave("ready\n")
	sent := 0
	for _, want := range []int{execCreditBytes, execCreditBytes - large, execCreditBytes - 2*large, 0} {
		w := write(t, host, fields{"id": id})
		if w.credit != want {
			t.Fatal(w.credit, want)
		}
		sent += least(large, want)
		w.send(strings.Repeat("x", least(large, want)))
		w.st.CloseWrite()
		w.st.waitEnd()
	}
	w := write(t, host, fields{"id": id})
	w.st.Write(record(execStdin, []byte("x")))
	w.st.waitEnd()
	if w.st.reason == nil || w.st.reason.code != "protocol-error" {
		t.Error(w.st.reason)
	}
	w = write(t, host, fields{"id": id})
	w.st.Write(record(execSignal, []byte("SIGUSR1")))
	w.until(func() bool { return bytes.Count(w.data, []byte("x")) == sent && w.credit > execCreditBytes/2 })
	w.st.Write(record(execEof, []byte{0}))
	w.until(isNever)
	if fmt.Sprint(w.exit["status"]) != "0" {
		t.Error(w.exit, len(w.data), sent)
	}

	// All that came before FIN reaches the command, although its output is no longer wanted then.
	id = keep(t, host, false, nil, "cat")
	w = write(t, host, fields{"id": id})
	for count := 0; count < 4; count++ {
		w.send(strings.Repeat("x", 60_000))
	}
	w.st.CloseWrite()
	st, r := attach(t, host, fields{"id": id})
	if err := r.read(st, 240_000); err != nil || len(r.data) != 240_000 {
		t.Error(err, len(r.data))
	}
	// One that no longer reads is no writer.
	w = write(t, host, fields{"id": id, "tail": 0})
	w.st.stop(failf("cancelled", ""))
	w.st.waitEnd()
	until(t, "nobody writes", func() bool { return !isWritten(e, id) })

	// A writer that does not read its output loses the input all the same, and holds up neither the job nor the next writer.
	id = keep(t, host, false, nil, "sh", "-c", "yes | head -c 1000000; cat")
	deaf := write(t, host, fields{"id": id})
	until(t, "all is written", func() bool { j := lookUp(e, id); defer j.lock()(); return j.bytes == 1_000_000 })
	w = write(t, host, fields{"id": id, "tail": 0, "steal": true})
	w.send("hello")
	w.has("hello")
	deaf.st.CloseWrite() // which says nothing of the input that was ignored
	if failed := deaf.refusal(); failed.code != "input-taken" {
		t.Error(failed)
	}
}

// TestUniqueJob: of all who start a job with a tag at a time, one does. The others learn its id, and may use it before it runs.
func TestUniqueJob(t *testing.T) {
	e, host := newTestExec(t)
	request := fields{"argv": []string{"cat"}, "hasInput": true, "detach": fields{"tag": "one", "unique": true}}
	starting.Lock()
	first := openStream(t, host, "exec")
	first.Write(record(execStart, encode(request)))
	until(t, "it is to start", func() bool { defer e.lock()(); return len(e.running) == 1 })
	for count := 0; count < 10; count++ {
		_, exit := ask(t, host, execStart, request, execExit)
		if failed := exit.object("error").reason(); failed.code != "job-exists" || !strings.HasPrefix(failed.message, "job "+e.running[0].id+" ") {
			t.Error(failed)
		}
	}
	id := e.running[0].id
	early := openStream(t, host, "exec")
	early.Write(append(record(execAttach, encode(fields{"id": id, "input": true})), record(execSignal, []byte("SIGTERM"))...))
	gone := openStream(t, host, "exec")
	gone.Write(record(execStop, encode(fields{"id": id})))
	gone.Close()
	starting.Unlock()
	if kind, payload, err := readRecord(first, func(byte) int { return 1000 }); kind != execStarted || err != nil {
		t.Error(kind, string(payload), err)
	}
	w := &writing{t: t, st: early}
	kind, _, err := readRecord(early, func(byte) int { return 1000 })
	w.until(isNever)
	if kind != execFrom || err != nil || w.exit["signal"] != "SIGTERM" {
		t.Error(kind, err, w.exit)
	}
	st, _ := ask(t, host, execStart, request, execStarted) // it has ended
	st.Close()
	request["detach"] = fields{"tag": "one"}
	ask(t, host, execStart, request, execStarted)
	request["detach"] = fields{"unique": true}
	ask(t, host, execStart, request, execStarted)
	ask(t, host, execStart, request, execStarted)
}

// TestWriters: nothing grows with the number of writers, which come and go, and steal from each other; all that they send arrives.
func TestWriters(t *testing.T) {
	e, host := newTestExec(t)
	id := keep(t, host, false, nil, "cat")
	write(t, host, fields{"id": id}).st.Close()
	used := func() (goroutines int, bytes uint64) {
		var memory runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&memory)
		return runtime.NumGoroutine(), memory.HeapAlloc
	}
	goroutines, bytes := used()
	var all sync.WaitGroup
	const callers, turns = 4, 250
	for caller := 0; caller < callers; caller++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for turn := 0; turn < turns; turn++ {
				st := openStream(t, host, "exec")
				st.Write(record(execAttach, encode(fields{"id": id, "input": true, "steal": true, "tail": 0})))
				kind, _, err := readRecord(st, func(byte) int { return 1000 })
				if kind != execFrom || err != nil {
					t.Error(kind, err)
				}
				if turn%2 == 0 {
					st.Close()
				} else {
					st.CloseWrite()
					st.drain()
				}
			}
		}()
	}
	all.Wait()
	until(t, "nobody writes", func() bool { return !isWritten(e, id) })
	until(t, "nothing has grown", func() bool {
		goroutinesNow, bytesNow := used()
		return goroutinesNow <= goroutines+5 && bytesNow < bytes+(4<<20)
	})
	w := write(t, host, fields{"id": id, "from": 0})
	w.send("still there")
	w.has("still there")
	if w.grants[0] != execCreditBytes {
		t.Error(w.grants)
	}
	w.st.CloseWrite()
	began := time.Now()
	e.stop()
	if time.Since(began) > time.Second {
		t.Error("the input holds up a stop")
	}
}
