package main

import (
	"io"
	"sync/atomic"
)

// writer is a caller that has the input of a job (R-JOBS-8).
type writer struct {
	job           *job
	stream        *stream
	credit        atomic.Int64
	isSteal       bool // asked for
	isStolen      bool // another caller has taken over
	due           int  // credit that was not sent yet
	hasCredit     bool // CREDIT was sent
	hasEnded      bool // it sent EOF
	columns, rows uint16
	bytes         int64 // that it sent
}

// parseWriter returns nil for an ATTACH without input.
func parseWriter(o requestObject) *writer {
	hasInput, w := o.boolean("input"), &writer{isSteal: o.boolean("steal")}
	if o.has("columns") || o.has("rows") {
		w.columns, w.rows = uint16(o.ranged("columns", "size", maxSide)), uint16(o.ranged("rows", "size", maxSide))
	}
	o.check("steal", hasInput || !w.isSteal, "input", 0)
	o.check("columns", hasInput || w.columns == 0, "input", 0)
	if !hasInput {
		return nil
	}
	return w
}

// waitBegin waits until a job runs or is forgotten, or the caller has gone.
func (j *job) waitBegin(st *stream) {
	hasGone := false
	st.notify(func() {}, func(*failure) {
		go func() {
			defer j.lock()()
			hasGone = true
			j.changed.Broadcast()
		}()
	})
	defer j.lock()()
	for j.facts == nil && j.gone == nil && !hasGone {
		j.changed.Wait()
	}
}

// join makes a caller the writer of a job. The caller holds the lock of the job.
func (j *job) join(w *writer) *failure {
	for j.writer != nil && j.writer.stream.isLeaving() { // what it sent before comes first
		j.changed.Wait()
	}
	switch c := j.call; {
	case j.exit != nil || j.facts == nil:
	case !c.request.hasInput:
		return failf("bad-argument", "ATTACH: input: the job was started without one")
	case j.writer != nil && !w.isSteal:
		return failf("input-taken", "another caller writes to job %s", j.id)
	default:
		if j.writer != nil {
			j.writer.isStolen = true
		}
		j.leave(j.writer)
		w.job, w.due, j.writer, j.freed = j, int(c.credit.Load()), w, 0
		w.credit.Store(int64(w.due)) // input may come before CREDIT has left
		logLine(logInfo, "exec-attached", "job %s: a caller writes to it", j.id)
		if c.terminal != nil {
			resize(c.terminal, w.columns, w.rows)
		}
	}
	return nil
}

func (w *writer) taken() *failure {
	return failf("input-taken", "another caller took over the input of job %s", w.job.id)
}

// leave gives the input up, unless another caller has it. The caller holds the lock of the job.
func (j *job) leave(w *writer) {
	if w != nil && j.writer == w {
		j.writer = nil
		j.changed.Broadcast()
		logLine(logInfo, "exec-detached", "job %s: the caller left, %d bytes", j.id, w.bytes)
	}
}

// free counts bytes of input that the command has read, and returns them to the writer as credit. The caller holds the lock of the
// job.
func (j *job) free(bytes int) {
	if j.freed += bytes; j.freed >= execCreditBytes/2 && j.writer != nil {
		j.writer.credit.Add(int64(j.freed))
		j.writer.due, j.freed = j.writer.due+j.freed, 0
		j.changed.Broadcast()
	}
}

// read handles what a writer sends, until it leaves. A part of a record counts, too.
func (w *writer) read(st *stream) {
	st.notify(func() { go st.Reset("cancelled", "the caller no longer reads") }, func(*failure) {})
	st.Lock()
	st.isKept = true
	st.Unlock()
	kind, payload, err := readCaller(st, &w.credit, w.handle)
	if kind == execStdin {
		w.handle(kind, payload)
	}
	w.job.Lock()
	isWriter := w.job.writer == w
	w.job.leave(w)
	w.job.Unlock()
	if isWriter && err != io.EOF && err != io.ErrUnexpectedEOF {
		st.Reset("protocol-error", "exec: %s", err)
	}
}

// handle handles a record of a writer, and reports whether it is valid.
func (w *writer) handle(kind byte, payload []byte) bool {
	defer w.job.lock()()
	j, c, isEof := w.job, w.job.call, kind == execEof && len(payload) == 1
	switch {
	case j.writer != w || isEof && (payload[0] == 1 || payload[0] == 2):
		return true
	case isEof && payload[0] == 0 && !w.hasEnded:
		w.hasEnded = true
		c.endInput()
		return true
	case kind == execStdin && !w.hasEnded:
		w.bytes += int64(len(payload))
		w.credit.Add(-int64(len(payload)))
		if c.input == nil { // an earlier writer has ended it
			j.free(len(payload))
			return true
		}
	}
	return c.handle(kind, payload)
}
