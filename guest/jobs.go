package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"time"
)

const (
	jobKeepTime = time.Hour // after its end
	// The most of a command in the list, so that all jobs fit into a record.
	jobWords     = 8
	jobWordBytes = 256
	jobTextBytes = 2048    // of JSON, for the words and the user
	jobListBytes = 3072    // the most of a job in a list, with its tag and numbers
	maxListBytes = 2 << 20 // of unread lists
	readersBytes = 8 << 20 // of all readers; each is sent at most its share at a time
)

// job is a command that outlives its caller (docs/exec.md). It keeps its last output, so that slow readers never block it.
type job struct {
	mutex
	changed *sync.Cond // more output, or the end of the job or of a reader
	call    *execCall
	id      string
	facts   fields // for the list; nil: it has not started

	ring      []byte // byte n of the output is at n modulo keepBytes
	keepBytes int
	bytes     int64       // of the output so far
	exit      []byte      // the payload of EXIT; nil: it runs
	gone      *failure    // why it was forgotten
	expiry    *time.Timer // nil: it has not ended

	writer *writer // nil: nobody has the input
	freed  int     // bytes of input that the command has read, not returned as credit yet
}

// addJob adds a job that is to start. The caller holds the lock.
func (e *execService) addJob(c *execCall) *failure {
	j := &job{call: c, keepBytes: c.request.keepBytes}
	j.changed = sync.NewCond(j)
	for _, other := range e.running {
		if c.request.isUnique && other.call.request.tag == c.request.tag {
			return failf("job-exists", `job %s has the tag "%s"`, other.id, escape(c.request.tag, maxJobTagBytes))
		}
	}
	if count, bytes := usedBy(e.running); count >= maxJobs || bytes+j.keepBytes > maxKeptBytes {
		return failf("too-many-streams", "no room to keep %d bytes of output: %d jobs run and keep %d (max %d jobs, %d bytes)",
			j.keepBytes, count, bytes, maxJobs, maxKeptBytes)
	}
	for j.id == "" || e.findJob(j.id) != nil {
		number := make([]byte, 4)
		rand.Read(number)
		j.id = hex.EncodeToString(number)
	}
	c.job, e.running = j, append(e.running, j)
	return nil
}

// usedBy returns the number of jobs, and how much of their output is kept at most.
func usedBy(jobs []*job) (count, bytes int) {
	for _, j := range jobs {
		bytes += j.keepBytes
	}
	return len(jobs), bytes
}

// makeRoom forgets the oldest ended jobs that leave no room for those that have started. The caller holds the lock.
func (e *execService) makeRoom() {
	isTooMuch := func() bool {
		started := append([]*job{}, e.ended...)
		for _, j := range e.running {
			if j.facts != nil {
				started = append(started, j)
			}
		}
		count, bytes := usedBy(started)
		return count > maxJobs || bytes > maxKeptBytes
	}
	for isTooMuch() {
		e.dropJob(e.ended[0], "others needed its room")
	}
}

// jobs returns those that have ended, then those that start or run, each the oldest first.
func (e *execService) jobs() []*job { return append(append([]*job{}, e.ended...), e.running...) }

func (e *execService) findJob(id string) *job {
	for _, j := range e.jobs() {
		if j.id == id {
			return j
		}
	}
	return nil
}

// keepJob keeps an ended job for an hour. The caller holds the lock.
func (e *execService) keepJob(j *job) {
	e.running, e.ended = without(j, e.running), append(e.ended, j)
	j.expiry = time.AfterFunc(jobKeepTime, func() {
		defer e.lock()()
		e.dropJob(j, "it ended an hour ago")
	})
}

// dropJob forgets a job that has ended, or did not start, and tells its readers why. The caller holds the lock.
func (e *execService) dropJob(j *job, why string) {
	if j.expiry != nil {
		j.expiry.Stop() // its function refers to the job
	}
	e.running, e.ended = without(j, e.running), without(j, e.ended)
	defer j.lock()()
	j.gone, j.ring = failf("not-found", `job "%s" is no longer kept: %s`, j.id, why), nil
	j.changed.Broadcast()
}

func without(j *job, jobs []*job) (rest []*job) {
	for _, each := range jobs {
		if each != j {
			rest = append(rest, each)
		}
	}
	return rest
}

// begin makes a started command a job. The caller holds the lock of the service.
func (j *job) begin(user string) {
	defer j.lock()()
	c, argv, left := j.call, []string{}, jobTextBytes
	shorten := func(text string) string {
		short, end := cut(text, jobWordBytes), ""
		for len(encode(short+end)) > left && short != "" {
			short, end = cut(short, len(short)*7/8), "…"
		}
		left -= len(encode(short + end))
		return strings.Clone(short + end) // it must not keep the request
	}
	user = shorten(user)
	for _, word := range c.request.argv[:least(len(c.request.argv), jobWords)] {
		argv = append(argv, shorten(word))
	}
	j.facts = fields{"id": j.id, "tag": orNull(c.request.tag), "argv": argv, "user": user, "terminal": c.terminal != nil,
		"pid": c.pid(), "startedAt": isoTime(time.Now()), "endedAt": nil, "status": nil, "signal": nil, "timedOut": false, "usage": nil}
	// A job may run for months: release its caller's session and the request.
	c.stream, c.request.argv, c.request.env = nil, nil, nil
	j.changed.Broadcast() // callers may know it by its tag
}

// serveJobs answers a LIST, ATTACH or STOP.
func (e *execService) serveJobs(st *stream, kind byte, payload []byte) (failed *failure) {
	if kind == execList {
		reserved := e.mostListBytes() // a list that has no room is not made
		if e.listBytes.Add(reserved) <= maxListBytes {
			list := record(execJobs, encode(fields{"jobs": e.withUsage(e.describeJobs())}))
			e.listBytes.Add(int32(len(list)) - reserved)
			reserved = int32(len(list))
			st.Write(list)
		} else {
			failed = failf("too-many-streams", "too many unread lists of jobs")
		}
		e.listBytes.Add(-reserved)
		return failed
	}
	o := parseRequest(payload, firstRecords[kind].name)
	id, from, tail := o.plain("id", o.fields["id"]), int64(0), int64(-1)
	if o.has("from") {
		from = int64(o.ranged("from", "whole", maxInteger))
	}
	if o.has("tail") {
		tail = int64(o.ranged("tail", "whole", maxInteger))
	}
	killAfter := o.delay("killAfterMs", killAfterUsual)
	o.check("tail", !o.has("from") || !o.has("tail"), "place", 0)
	var w *writer
	if kind == execAttach {
		w = parseWriter(o)
	}
	if *o.failed != nil {
		return *o.failed
	}
	e.Lock()
	j := e.findJob(id)
	e.Unlock()
	if j == nil {
		return failf("not-found", `no job "%s"`, escape(id, 64))
	}
	j.waitBegin(st)
	if kind == execStop {
		j.stop(killAfter)
		from, tail = maxInteger, -1 // only EXIT
	}
	return e.follow(j, st, w, from, tail, kind == execAttach)
}

// mostListBytes returns the most that a list has now.
func (e *execService) mostListBytes() int32 {
	defer e.lock()()
	return int32(jobListBytes * (1 + len(e.ended) + len(e.running)))
}

func (e *execService) describeJobs() []fields {
	defer e.lock()()
	all := []fields{}
	for _, j := range e.jobs() {
		if j.facts != nil {
			all = append(all, j.describe())
		}
	}
	return all
}

// withUsage adds what the running jobs of a list have used.
func (e *execService) withUsage(all []fields) []fields {
	asked, used := time.Now(), map[int]fields(nil)
	for _, each := range all {
		if each["endedAt"] != nil {
			continue
		}
		if used == nil {
			used = e.look(asked)
		}
		if one := used[each["pid"].(int)]; one != nil {
			each["usage"] = one
		}
	}
	return all
}

// look returns what the running jobs have used. One look after another serves all who asked before it began.
func (e *execService) look(asked time.Time) map[int]fields {
	e.looking.Lock()
	defer e.looking.Unlock()
	if !e.lookedAt.After(asked) {
		e.lookedAt = time.Now()
		running := map[int]bool{}
		for _, each := range e.describeJobs() {
			if each["endedAt"] == nil {
				running[each["pid"].(int)] = true
			}
		}
		e.used = usageOfSessions(running)
	}
	return e.used
}

func (j *job) describe() fields {
	defer j.lock()()
	all := fields{"bytes": j.bytes, "keptFrom": j.keptFrom(), "takesInput": j.call.input != nil, "hasWriter": j.writer != nil}
	for name, value := range j.facts {
		all[name] = value
	}
	return all
}

// stop ends a job with TERM, and with KILL after killAfter, regardless of its START.
func (j *job) stop(killAfter time.Duration) {
	defer j.lock()()
	if j.exit == nil && j.facts != nil {
		j.call.end(killAfter)
	}
}

// write handles a record that an attached command would send to its caller.
func (j *job) write(record []byte) {
	defer j.lock()()
	payload := record[recordHeaderBytes:]
	switch record[0] {
	case execStdout:
		first := least(len(payload), j.keepBytes-len(j.ring))
		if need := len(j.ring) + first; need > cap(j.ring) {
			j.ring = append(make([]byte, 0, least(j.keepBytes, 2*need)), j.ring...)
		}
		j.ring = append(j.ring, payload[:first]...)
		for at := first; at < len(payload) && j.keepBytes > 0; {
			at += copy(j.ring[(j.bytes+int64(at))%int64(j.keepBytes):], payload[at:])
		}
		j.bytes += int64(len(payload))
	case execExit:
		result := parseObject(payload, "").fields
		for _, name := range []string{"status", "signal", "timedOut", "usage"} {
			j.facts[name] = result[name]
		}
		j.exit, j.facts["endedAt"] = payload, isoTime(time.Now())
		if j.call.input != nil {
			j.call.isCut = true
			j.call.endInput()
		}
		j.leave(j.writer)
	}
	j.changed.Broadcast()
}

// keptFrom returns the number of the first byte that is kept.
func (j *job) keptFrom() int64 { return j.bytes - least(j.bytes, int64(j.keepBytes)) }

// part returns kept bytes from a number on, up to the end of the ring.
func (j *job) part(from int64) []byte {
	start := from % int64(j.keepBytes)
	return j.ring[start:least(start+j.bytes-from, int64(len(j.ring)))]
}

// follow sends the output from byte next on, or the last tail bytes if that is not negative, then EXIT. It returns early when
// the caller has gone or ends its direction, and with a failure when the job is forgotten, or has another writer.
func (e *execService) follow(j *job, st *stream, w *writer, next, tail int64, hasFrom bool) *failure {
	e.following.Add(1)
	defer e.following.Add(-1)
	hasGone := false
	defer j.lock()()
	if w != nil {
		w.stream = st
		if failed := j.join(w); failed != nil {
			return failed
		}
	}
	go func() {
		if w != nil && w.job != nil {
			w.read(st)
		}
		st.writeTo(io.Discard)
		defer j.lock()()
		hasGone = true
		j.changed.Broadcast()
	}()
	if tail >= 0 {
		next = j.bytes - least(tail, j.bytes)
	}
	for isOver := false; !isOver && !hasGone; {
		var buffer []byte
		var isLent bool
		switch {
		case j.gone != nil:
			return j.gone
		case w != nil && w.isStolen:
			return w.taken()
		case hasFrom || next < j.keptFrom():
			hasFrom = false
			if next < j.keptFrom() {
				next = j.keptFrom()
			}
			buffer = record(execFrom, encode(fields{"from": next}))
		case w != nil && j.writer == w && (!w.hasCredit || w.due > 0):
			buffer = record(execCredit, binary.BigEndian.AppendUint32(nil, uint32(w.due)))
			w.hasCredit, w.due = true, 0
		case next >= j.bytes && j.exit == nil:
			j.changed.Wait()
			continue
		case next >= j.bytes:
			buffer, isOver = record(execExit, j.exit), true
		default:
			// Readers wait for room without a buffer, and only a few have one at a time.
			j.Unlock()
			most := st.waitRoom(recordHeaderBytes + 1)
			e.readers <- struct{}{}
			j.Lock()
			if hasGone = hasGone || most == 0; hasGone || j.gone != nil || next < j.keptFrom() {
				<-e.readers
				continue
			}
			share := readersBytes / int(e.following.Load()) // R-JOBS-5
			if share < 4096 {
				share = 4096
			}
			most = least(most, share)
			part := j.part(next)
			part = part[:least(len(part), least(most, outputBytes)-recordHeaderBytes)]
			isLent, buffer = true, room(recordHeaderBytes+len(part))
			buffer[0] = execStdout
			binary.BigEndian.PutUint32(buffer[1:], uint32(len(part)))
			next += int64(copy(buffer[recordHeaderBytes:], part))
		}
		j.Unlock()
		_, err := st.Write(buffer)
		if isLent {
			memory.Put(&buffer)
			<-e.readers
		}
		j.Lock()
		hasGone = hasGone || err != nil
	}
	for w != nil && j.writer == w { // what it sent before its end reaches the command
		j.changed.Wait()
	}
	if w != nil && w.isStolen { // before its end came
		return w.taken()
	}
	return nil
}
