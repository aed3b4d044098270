package main

import (
	"bytes"
	"fmt"
	"math"
	"math/rand"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func newTestExec(t *testing.T) (e *execService, host *channel) {
	machine, host := pair(t)
	e = newExecService(nil)
	machine.services["exec"] = e.serve
	t.Cleanup(e.stop)
	return e, host
}

// ask sends the first record of a stream, and returns the answer, which must be of this kind.
func ask(t *testing.T, host *channel, kind byte, request any, answer byte) (*stream, object) {
	t.Helper()
	payload := []byte{}
	if request != nil {
		payload = encode(request)
	}
	st := openStream(t, host, "exec")
	st.Write(record(kind, payload))
	got, payload, err := readRecord(st, func(byte) int { return 1 << 20 })
	if got != answer || err != nil {
		t.Fatalf("%d, not %d: %s, %v", got, answer, payload, err)
	}
	return st, parseObject(payload, "answer")
}

// startJob starts a job and waits for the end of the caller's stream.
func startJob(t *testing.T, host *channel, keepBytes int, argv ...string) (id string) {
	t.Helper()
	st, started := ask(t, host, execStart, fields{"argv": argv, "detach": fields{"tag": "a tag", "keepBytes": keepBytes}}, execStarted)
	if rest, _, err := readRecord(st, func(byte) int { return 0 }); err == nil || started.integer("pid", 2, maxInteger) == 0 {
		t.Fatal(rest, err, started.fields)
	}
	st.CloseWrite()
	return started.text("job")
}

// reading is what a reader has got: the output, and for each gap its place and length.
type reading struct {
	next int64
	data []byte
	gaps [][2]int64
	exit fields
}

// read reads records until EXIT, or until there are so many bytes.
func (r *reading) read(st *stream, most int) (err error) {
	for r.exit == nil && len(r.data) < most {
		kind, payload, err := readRecord(st, func(byte) int { return outputBytes - recordHeaderBytes })
		switch {
		case err != nil:
			return err
		case kind == execStdout:
			r.next += int64(len(payload))
			r.data = append(r.data, payload...)
		case kind == execFrom:
			from := parseObject(payload, "").integer("from", float64(r.next+1), maxInteger)
			r.gaps = append(r.gaps, [2]int64{r.next, from - r.next})
			r.next = from
		case kind == execExit:
			r.exit = parseObject(payload, "").fields
		default:
			return fmt.Errorf("kind %d", kind)
		}
	}
	return nil
}

// attach begins to read a job.
func attach(t *testing.T, host *channel, request fields) (*stream, *reading) {
	t.Helper()
	st, place := ask(t, host, execAttach, request, execFrom)
	return st, &reading{next: place.integer("from", 0, maxInteger)}
}

func listJobs(t *testing.T, host *channel) []object {
	t.Helper()
	st, list := ask(t, host, execList, nil, execJobs)
	st.CloseWrite()
	return list.objects("jobs", maxJobs)
}

func stopJob(t *testing.T, host *channel, request fields) fields {
	t.Helper()
	st, exit := ask(t, host, execStop, request, execExit)
	st.CloseWrite()
	st.waitEnd()
	if st.reason != nil {
		t.Error(st.reason)
	}
	return exit.fields
}

func lookUp(e *execService, id string) *job {
	defer e.lock()()
	return e.findJob(id)
}

// until waits until a condition holds.
func until(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !isSo(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never:", what)
		}
	}
}

// jobOf waits for the end of a job, and returns its entry in the list.
func jobOf(t *testing.T, host *channel, id string) (entry object) {
	t.Helper()
	until(t, "the end of "+id, func() bool {
		for _, entry = range listJobs(t, host) {
			if entry.fields["id"] == id {
				return entry.has("endedAt")
			}
		}
		return false
	})
	return entry
}

// TestJobReaders: readers that read on, stall, or begin again at random bytes read the same; none holds the job up.
func TestJobReaders(t *testing.T) {
	_, host := newTestExec(t)
	var want bytes.Buffer
	for number := 1; number <= 300_000; number++ {
		fmt.Fprintln(&want, number)
	}
	id := startJob(t, host, maxJobKeepBytes, "seq", "1", "300000")
	stalled, late := attach(t, host, fields{"id": id, "from": 0})
	var reading3 sync.WaitGroup
	reading3.Add(2)
	go func() {
		defer reading3.Done()
		st, r := attach(t, host, fields{"id": id})
		if err := r.read(st, math.MaxInt); err != nil || !bytes.Equal(r.data, want.Bytes()) {
			t.Error(err, len(r.data))
		}
	}()
	go func() {
		defer reading3.Done()
		all := &reading{}
		for all.exit == nil {
			st, r := attach(t, host, fields{"id": id, "from": len(all.data)})
			err := r.read(st, 1+rand.Intn(200_000))
			all.data, all.exit = append(all.data, r.data...), r.exit
			st.CloseWrite()
			if rand.Intn(2) == 0 || err != nil {
				st.Close()
			}
		}
		if !bytes.Equal(all.data, want.Bytes()) {
			t.Error(len(all.data))
		}
	}()
	reading3.Wait()
	if err := late.read(stalled, math.MaxInt); err != nil || !bytes.Equal(late.data, want.Bytes()) || late.gaps != nil {
		t.Error(err, len(late.data), late.gaps)
	}
	if status := late.exit["status"]; fmt.Sprint(status) != "0" {
		t.Error(late.exit)
	}
	st, r := attach(t, host, fields{"id": id, "tail": 14})
	if err := r.read(st, math.MaxInt); err != nil || string(r.data) != "299999\n300000\n" {
		t.Errorf("%v, %q", err, r.data)
	}
	st, r = attach(t, host, fields{"id": id, "from": int64(1) << 40})
	if err := r.read(st, math.MaxInt); err != nil || r.next != 1<<40 || r.exit == nil {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestJobGaps: a reader is told what was dropped, where it was.
func TestJobGaps(t *testing.T) {
	_, host := newTestExec(t)
	fifo, want := t.TempDir()+"/fifo", []byte{}
	syscall.Mkfifo(fifo, 0o600)
	id := startJob(t, host, 100_000, "sh", "-c", "cat "+fifo+" >&2")
	input, _ := os.OpenFile(fifo, os.O_WRONLY, 0)
	st, r := attach(t, host, fields{"id": id})
	other, ahead := attach(t, host, fields{"id": id, "from": 3})
	write := func(part []byte) {
		want = append(want, part...)
		input.Write(part)
	}
	write([]byte("first"))
	if err := r.read(st, 5); err != nil || string(r.data) != "first" {
		t.Fatalf("%v, %q", err, r.data)
	}
	// It waits for the byte that it wants.
	if err := ahead.read(other, 2); err != nil || string(ahead.data) != "st" {
		t.Fatalf("%v, %q", err, ahead.data)
	}
	large := make([]byte, 3_000_000)
	rand.Read(large)
	write(large)
	input.Close()
	entry := jobOf(t, host, id)
	if entry.integer("bytes", 3_000_005, 3_000_005) != entry.integer("keptFrom", 2_900_005, 2_900_005)+100_000 || *entry.failed != nil {
		t.Error(entry.fields)
	}
	r.data = nil
	err := r.read(st, math.MaxInt)
	kept, at := []byte{}, int64(5)
	for _, gap := range append(r.gaps, [2]int64{int64(len(want)), 0}) {
		kept, at = append(kept, want[at:gap[0]]...), gap[0]+gap[1]
	}
	if err != nil || len(r.gaps) == 0 || r.next != int64(len(want)) || !bytes.Equal(kept, r.data) {
		t.Error(err, r.gaps, r.next, len(r.data), len(kept))
	}
	// A later reader begins with the first byte that is kept.
	for _, request := range []fields{{"id": id}, {"id": id, "from": 77}, {"id": id, "tail": 200_000}} {
		st, r = attach(t, host, request)
		if err := r.read(st, math.MaxInt); err != nil || r.gaps != nil || !bytes.Equal(r.data, want[2_900_005:]) {
			t.Error(request, err, r.gaps, len(r.data))
		}
	}
	id = startJob(t, host, 0, "echo", "none")
	if entry = jobOf(t, host, id); entry.integer("bytes", 5, 5) != entry.integer("keptFrom", 5, 5) || *entry.failed != nil {
		t.Error(entry.fields)
	}
}

// TestJobRing: pieces of any length, into a ring that grows.
func TestJobRing(t *testing.T) {
	for _, keepBytes := range []int{0, 1, 7, 1000, 70_000} {
		j, want := &job{keepBytes: keepBytes}, []byte{}
		j.changed = sync.NewCond(j)
		for count := 0; count < 300; count++ {
			part := make([]byte, 1+rand.Intn(1+rand.Intn(2000)))
			rand.Read(part)
			want = append(want, part...)
			j.write(record(execStdout, part))
			kept := []byte{}
			for at := j.keptFrom(); at < j.bytes; at += int64(len(j.part(at))) {
				kept = append(kept, j.part(at)...)
			}
			if first := len(want) - least(len(want), keepBytes); j.bytes != int64(len(want)) || !bytes.Equal(kept, want[first:]) ||
				cap(j.ring) > keepBytes || len(j.ring) > 4*len(want) {
				t.Fatal(keepBytes, count, j.bytes, j.keptFrom(), len(j.ring))
			}
		}
	}
}

// TestUsageLooks: one look at the processes serves all who asked before it began.
func TestUsageLooks(t *testing.T) {
	e := newExecService(nil)
	asked := time.Now()
	e.look(asked)[-1] = fields{}
	if e.look(asked)[-1] == nil || e.look(time.Now())[-1] != nil {
		t.Error("another look, or none")
	}
}

// TestJobLives: a job outlives its caller; its list entry and the ends of readers, STOP and timeouts are right.
func TestJobLives(t *testing.T) {
	e, host := newTestExec(t)
	st, started := ask(t, host, execStart, fields{"argv": []string{"sh", "-c", "test -t 0 || cat; sleep 1000"}, "detach": fields{}},
		execStarted)
	st.Close()
	id := started.text("job")
	j := lookUp(e, id)
	entry := listJobs(t, host)[0]
	want := fields{"id": id, "tag": nil, "argv": []any{"sh", "-c", "test -t 0 || cat; sleep 1000"}, "user": j.facts["user"],
		"pid": started.fields["pid"], "startedAt": j.facts["startedAt"], "endedAt": nil, "status": nil, "signal": nil,
		"timedOut": false, "terminal": false, "takesInput": false, "hasWriter": false, "usage": entry.fields["usage"]}
	if entry.integer("bytes", 0, 0)+entry.integer("keptFrom", 0, 0) != 0 || !isHex(id, 8) || j.keepBytes != jobKeepBytes {
		t.Error(entry.fields, id, j.keepBytes)
	}
	delete(entry.fields, "bytes")
	delete(entry.fields, "keptFrom")
	if !reflect.DeepEqual(entry.fields, map[string]any(want)) {
		t.Error(entry.fields, want)
	}
	// The end of a reader's direction detaches it.
	st, r := attach(t, host, fields{"id": id})
	st.CloseWrite()
	if err := r.read(st, 1); r.exit != nil || err == nil {
		t.Error(err, r.exit)
	}
	st, _ = attach(t, host, fields{"id": id})
	st.Close()
	st, r = attach(t, host, fields{"id": id})
	if exit := stopJob(t, host, fields{"id": id}); exit["signal"] != "SIGTERM" || exit["status"] != nil || exit["error"] != nil {
		t.Error(exit)
	}
	if err := r.read(st, 1); err != nil || r.exit["signal"] != "SIGTERM" {
		t.Error(err, r.exit)
	}
	if exit := stopJob(t, host, fields{"id": id}); exit["signal"] != "SIGTERM" { // it has ended
		t.Error(exit)
	}
	if entry = jobOf(t, host, id); entry.fields["signal"] != "SIGTERM" {
		t.Error(entry.fields)
	}
	_, started = ask(t, host, execStart, fields{"argv": []string{"sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"},
		"killAfterMs": 50, "detach": fields{}}, execStarted)
	id = started.text("job")
	st, r = attach(t, host, fields{"id": id})
	r.read(st, 1) // it ignores TERM now
	if exit := stopJob(t, host, fields{"id": id, "killAfterMs": 50}); exit["signal"] != "SIGKILL" {
		t.Error(exit)
	}
	_, started = ask(t, host, execStart, fields{"argv": []string{"sleep", "1000"}, "timeoutMs": 50, "detach": fields{}}, execStarted)
	entry = jobOf(t, host, started.text("job"))
	if entry.fields["timedOut"] != true || entry.fields["signal"] != "SIGTERM" {
		t.Error(entry.fields)
	}
	for _, kind := range []byte{execAttach, execStop} {
		_, exit := ask(t, host, kind, fields{"id": "no\n" + id}, execExit)
		if failed := exit.object("error").reason(); failed.code != "not-found" || !strings.HasPrefix(failed.message, `no job "no\`) {
			t.Error(failed)
		}
	}
	_, exit := ask(t, host, execStart, fields{"argv": []string{"/nonexistent"}, "detach": fields{}}, execExit)
	if failed := exit.object("error").reason(); failed.code != "command-not-found" {
		t.Error(failed)
	}
	id = startJob(t, host, 10, "sleep", "1000")
	e.stop()
	if entry = jobOf(t, host, id); entry.fields["signal"] != "SIGTERM" {
		t.Error(entry.fields)
	}
	until(t, "no call is left", func() bool { defer e.lock()(); return len(e.calls) == 0 })
}

// TestJobLimits: jobs that run leave no room for others, those that have ended do; and the length of the list.
func TestJobLimits(t *testing.T) {
	e, host := newTestExec(t)
	refused := func(running int) {
		_, exit := ask(t, host, execStart, fields{"argv": []string{"true"}, "detach": fields{"keepBytes": 1}}, execExit)
		want := fmt.Sprintf("no room to keep 1 bytes of output: %d jobs run and keep 67108864 (max 64 jobs, 67108864 bytes)", running)
		if failed := exit.object("error").reason(); failed.code != "too-many-streams" || failed.message != want {
			t.Error(failed)
		}
	}
	ids := []string{}
	for len(ids) < maxJobs {
		ids = append(ids, startJob(t, host, jobKeepBytes, "sleep", "1000"))
	}
	refused(maxJobs)
	ask(t, host, execStart, fields{"argv": []string{"true"}}, execStarted) // is no job
	stopJob(t, host, fields{"id": ids[7]})
	latest := startJob(t, host, 10, "sleep", "1000")
	if list := listJobs(t, host); len(list) != maxJobs || list[maxJobs-1].text("id") != latest || lookUp(e, ids[7]) != nil {
		t.Error(len(list))
	}
	for index, id := range append(ids, latest) {
		if index != 7 {
			stopJob(t, host, fields{"id": id})
		}
	}
	for count := 0; count < 5; count++ {
		_, exit := ask(t, host, execStart, fields{"argv": []string{"/no"}, "detach": fields{"keepBytes": maxJobKeepBytes}}, execExit)
		if failed := exit.object("error").reason(); failed.code != "command-not-found" {
			t.Error(failed)
		}
	}
	if list := listJobs(t, host); len(list) != maxJobs { // a START that fails forgets nothing
		t.Error(len(list))
	}
	large := []string{}
	for len(large) < 4 {
		large = append(large, startJob(t, host, maxJobKeepBytes, "sleep", "1000"))
	}
	refused(len(large))
	if list := listJobs(t, host); len(list) != len(large) {
		t.Error(len(list))
	}
	e.Lock()
	defer e.Unlock()
	c := e.running[0].call
	e.running = nil
	q := &execRequest{tag: strings.Repeat("\x01", maxJobTagBytes)}
	for len(q.argv) < 20 {
		q.argv = append(q.argv, strings.Repeat("<", 300))
	}
	for len(e.running) < maxJobs {
		copied := *q
		failed := e.addJob(&execCall{request: &copied, child: c.child})
		if failed == nil {
			e.running[len(e.running)-1].begin(strings.Repeat("\x01", 300))
		}
	}
	e.Unlock()
	all := e.describeJobs()
	e.Lock()
	e.running = nil
	argv := all[0]["argv"].([]string)
	if size := len(encode(all)); size > execRequestBytes-20 || size > maxJobs*(jobTextBytes+1024) || len(argv) != jobWords {
		t.Error(size, len(argv))
	}
}

// TestRoomAtEnd: who knows that a command has ended, or a job, can start the next one in its place.
func TestRoomAtEnd(t *testing.T) {
	e, host := newTestExec(t)
	ids := []string{}
	for count := 0; count < 200; count++ {
		if len(ids) == 4 {
			stopJob(t, host, fields{"id": ids[0]})
			ids = ids[1:]
		}
		ids = append(ids, startJob(t, host, maxJobKeepBytes, "sleep", "1000"))
	}
	e.Lock()
	others := maxCommands - 1 - e.slots
	e.slots += others
	e.Unlock()
	for count := 0; count < 200; count++ {
		st, _ := ask(t, host, execStart, fields{"argv": []string{"true"}, "hasInput": false}, execStarted)
		for kind := byte(0); kind != execExit; {
			var err error
			if kind, _, err = readRecord(st, func(byte) int { return 1000 }); err != nil {
				t.Fatal(err)
			}
		}
		st.CloseWrite()
	}
	defer e.lock()()
	e.slots -= others
}

// TestJobExpiry: an ended job is kept for an hour.
func TestJobExpiry(t *testing.T) {
	e, host := newTestExec(t)
	id := startJob(t, host, 10, "true")
	jobOf(t, host, id)
	e.Lock()
	e.ended[0].expiry.Reset(0)
	e.Unlock()
	until(t, "it expires", func() bool { return lookUp(e, id) == nil })
}

// TestRequests: invalid requests are answered (R-EXEC-1); anything else resets the stream.
func TestRequests(t *testing.T) {
	e, host := newTestExec(t)
	start := func(more string) []byte { return record(execStart, []byte(`{"argv":["true"],`+more+`}`)) }
	job := func(kind byte, text string) []byte { return record(kind, []byte(text)) }
	const position = "not a whole number from 0 to 9007199254740991"
	for want, request := range map[string][]byte{
		"START: hasInput: neither true nor false":              start(`"hasInput":1,"detach":{}`),
		"START: detach.unique: neither true nor false":         start(`"detach":{"unique":"yes"}`),
		"ATTACH: input: neither true nor false":                job(execAttach, `{"id":"12345678","input":1}`),
		"ATTACH: steal: not allowed without input":             job(execAttach, `{"id":"12345678","steal":true}`),
		"ATTACH: columns: not allowed without input":           job(execAttach, `{"id":"12345678","input":false,"columns":80,"rows":24}`),
		"ATTACH: rows: not a whole number from 1 to 65535":     job(execAttach, `{"id":"12345678","input":true,"columns":80}`),
		"START: detach: not an object":                         start(`"detach":true`),
		"START: detach.tag: not a string":                      start(`"detach":{"tag":7}`),
		"START: detach.tag: longer than 64 bytes":              start(`"detach":{"tag":"` + strings.Repeat("é", 33) + `"}`),
		"START: user: contains NUL":                            start(`"user":"\u0000"`),
		"START: env[A]: not a string":                          start(`"env":{"A":null}`),
		"START is not UTF-8":                                   start(`"user":"` + "\xff" + `"`),
		"START has half a surrogate pair":                      start(`"user":"\ud83d\ude00\\\udfff"`),
		"LIST too long: 2 bytes (max 0)":                       job(execList, "{}"),
		"ATTACH: id: not a string":                             job(execAttach, `{"id":12345678}`),
		"ATTACH: tail: not allowed with from":                  job(execAttach, `{"id":"12345678","from":0,"tail":0}`),
		"ATTACH: from: " + position:                            job(execAttach, `{"id":"12345678","from":-1}`),
		"ATTACH: tail: " + position:                            job(execAttach, `{"id":"12345678","tail":"1"}`),
		"ATTACH is not a JSON object":                          job(execAttach, `{"id":"12345678"`),
		"ATTACH too long: 4099 bytes (max 4096)":               job(execAttach, strings.Repeat("x", 4099)),
		"STOP is not a JSON object":                            job(execStop, ""),
		"STOP: killAfterMs: not a number from 0 to 2147483647": job(execStop, `{"id":"12345678","killAfterMs":-1}`),
	} {
		st := openStream(t, host, "exec")
		st.Write(request)
		st.Write(make([]byte, 100_000))
		kind, payload, err := readRecord(st, func(byte) int { return 1 << 20 })
		failed := parseObject(payload, "").object("error").reason()
		if kind != execExit || err != nil || failed.code != "bad-argument" || failed.message != want {
			t.Errorf("%s: %d, %v, %v", want, kind, err, failed)
		}
		st.CloseWrite()
		st.waitEnd()
		if st.reason != nil {
			t.Error(want, st.reason)
		}
	}
	for name, request := range map[string][]byte{
		"stdin first": record(execStdin, []byte("x")),
		"answer":      record(execJobs, []byte(`{"jobs":[]}`)),
		"cut":         record(execAttach, []byte(`{"id":"12345678"}`))[:12],
		"nothing":     nil,
	} {
		st := openStream(t, host, "exec")
		st.Write(request)
		st.CloseWrite()
		st.waitEnd()
		if st.reason == nil || st.reason.code != "protocol-error" {
			t.Error(name, st.reason)
		}
	}
	if len(e.running) != 0 || e.startBytes.Load() != 0 {
		t.Error(len(e.running), e.startBytes.Load())
	}
	// Anything in UTF-8 is valid, and null means absent.
	text := `{"argv":["\ud83d\ude00","\\ud800","\ufffd"],"cwd":null,"env":null,"terminal":null,"hasInput":null,"detach":null}`
	q, failed := parseExecRequest([]byte(text))
	if failed != nil || !reflect.DeepEqual(q.argv, []string{"😀", `\ud800`, "\ufffd"}) || q.isJob || !q.hasInput {
		t.Error(q, failed)
	}
	const terminal = `"terminal":{"columns":80,"rows":24,"term":"dumb"}`
	for more, hasInput := range map[string]bool{`"detach":{}`: false, `"detach":{},` + terminal: true, terminal: true,
		`"detach":{},"hasInput":true`: true, `"hasInput":false,"detach":{},` + terminal: false, `"hasInput":false`: false} {
		if q, failed := parseExecRequest(start(more)[recordHeaderBytes:]); failed != nil || q.hasInput != hasInput {
			t.Error(more, failed)
		}
	}
}

// TestStopAgain: KILL comes at the earliest time that a STOP asked for.
func TestStopAgain(t *testing.T) {
	e, host := newTestExec(t)
	const stubborn = "trap '' TERM; echo; while :; do sleep 0.1; done"
	start := func(killAfterMs int) (id string) {
		_, started := ask(t, host, execStart, fields{"argv": []string{"sh", "-c", stubborn}, "killAfterMs": killAfterMs,
			"detach": fields{}}, execStarted)
		id = started.text("job")
		st, r := attach(t, host, fields{"id": id})
		r.read(st, 1) // it ignores TERM now
		st.Close()
		return id
	}
	id := start(500)
	j := lookUp(e, id)
	until(t, "the end, although it is told again", func() bool {
		j.stop(500 * time.Millisecond)
		defer j.lock()()
		return j.exit != nil
	})
	if exit := stopJob(t, host, fields{"id": id}); exit["signal"] != "SIGKILL" {
		t.Error(exit)
	}
	// The kill-after of a START may be days.
	id = start(1<<31 - 1)
	lookUp(e, id).stop(time.Hour)
	began := time.Now()
	if exit := stopJob(t, host, fields{"id": id, "killAfterMs": 50}); exit["signal"] != "SIGKILL" || time.Since(began) > maxKillAfter/2 {
		t.Error(exit, time.Since(began))
	}
}

// TestUnreadLists: lists that nobody reads are bounded.
func TestUnreadLists(t *testing.T) {
	e, host := newTestExec(t)
	for count := 0; count < maxJobs; count++ {
		startJob(t, host, 0, "true", strings.Repeat("\x01", 300), strings.Repeat("\x01", 300))
	}
	unread := []*stream{}
	until(t, "no list more is held", func() bool {
		st := openStream(t, host, "exec")
		st.Write(record(execList, nil))
		kind, payload, err := readRecord(st, func(byte) int { return execRequestBytes })
		if kind == execExit {
			failed := parseObject(payload, "").object("error").reason()
			return failed.code == "too-many-streams" && failed.message == "too many unread lists of jobs"
		} else if kind != execJobs || err != nil {
			t.Fatal(kind, err)
		}
		st = openStream(t, host, "exec")
		st.Write(record(execList, nil))
		unread = append(unread, st)
		return false
	})
	if len(unread) < 10 {
		t.Error(len(unread))
	}
	for _, st := range unread {
		st.Close()
	}
	until(t, "lists are sent again", func() bool { return e.listBytes.Load() == 0 && len(listJobs(t, host)) == maxJobs })
}

// TestForgottenReaders: a reader of a forgotten job learns that it is gone, and keeps nothing of it.
func TestForgottenReaders(t *testing.T) {
	const jobs, readers = 12, 30
	e, host := newTestExec(t)
	used := func() int64 {
		var memory runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&memory)
		return int64(memory.HeapAlloc)
	}
	before := used()
	ids, all := []string{}, []*stream{}
	for len(ids) < jobs {
		id := startJob(t, host, maxJobKeepBytes, "head", "-c", fmt.Sprint(maxJobKeepBytes), "/dev/zero")
		ids = append(ids, id)
		jobOf(t, host, id)
		for count := 0; count < readers; count++ {
			st, _ := attach(t, host, fields{"id": id})
			all = append(all, st)
		}
	}
	until(t, "all readers wait without a buffer", func() bool { return len(e.readers) == 0 })
	// This includes what the test's callers have received and not read.
	if grown, most := used()-before, int64(2*maxKeptBytes); grown > most {
		t.Error(grown, most)
	}
	r := &reading{}
	if err := r.read(all[0], math.MaxInt); err != nil || r.next >= maxJobKeepBytes {
		t.Fatal(err, r.next)
	}
	failed := object{fields: r.exit, failed: new(*failure)}.object("error").reason()
	if failed.code != "not-found" || failed.message != fmt.Sprintf(`job "%s" is no longer kept: others needed its room`, ids[0]) {
		t.Error(failed)
	}
	last := all[len(all)-1]
	if r = (&reading{}); r.read(last, math.MaxInt) != nil || r.next != maxJobKeepBytes || r.exit["error"] != nil {
		t.Error(r.next, r.exit)
	}
}
