package main

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
)

// execInput is the standard input of a command. It keeps at most what its credit allows, so that the caller's other
// records are read meanwhile.
type execInput struct {
	call *execCall
	to   *os.File // nil: none

	mu                 sync.Mutex
	changed            *sync.Cond
	waiting            []byte
	credit, consumed   int
	isEnded, isDropped bool
}

func newExecInput(c *execCall, to *os.File) *execInput {
	i := &execInput{call: c, to: to, credit: execCreditBytes, isEnded: !c.request.hasInput}
	i.changed = sync.NewCond(&i.mu)
	return i
}

// take reads the payload of a STDIN record.
func (i *execInput) take(length int) *failure {
	i.mu.Lock()
	isEnded := i.isEnded
	i.credit -= length
	over := -i.credit
	i.mu.Unlock()
	if isEnded || over > 0 {
		return failf("protocol-error", "exec: STDIN after its end, or beyond its credit")
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(i.call.stream, payload); err != nil {
		return failf("protocol-error", "exec: the stream ended within a record")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.isDropped {
		i.consume(length)
	} else {
		i.waiting = append(i.waiting, payload...)
		i.changed.Signal()
	}
	return nil
}

// consume returns credit, half of it at a time; in a goroutine of its own, because the caller may not read now.
func (i *execInput) consume(count int) {
	if i.consumed += count; i.consumed >= execCreditBytes/2 && !i.isEnded {
		i.credit += i.consumed
		go i.call.write(execCredit, binary.BigEndian.AppendUint32(nil, uint32(i.consumed)))
		i.consumed = 0
	}
}

// end ends the input behind what waits; false if it had ended before.
func (i *execInput) end() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	isFirst := !i.isEnded
	i.isEnded = true
	i.changed.Signal()
	return isFirst
}

// drop forgets what waits and what comes: nobody reads it.
func (i *execInput) drop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.isDropped = true
	i.consume(len(i.waiting))
	i.waiting = nil
	i.changed.Signal()
	if i.to != i.call.terminal {
		i.to.Close()
	}
}

// run writes to the command.
func (i *execInput) run() {
	for i.to != nil {
		i.mu.Lock()
		for len(i.waiting) == 0 && !i.isEnded && !i.isDropped {
			i.changed.Wait()
		}
		part := i.waiting
		i.waiting = nil
		i.mu.Unlock()
		if len(part) == 0 && i.to == i.call.terminal {
			i.to.Write([]byte{4}) // the end of input, as typed
			return
		}
		if _, err := i.to.Write(part); err != nil || len(part) == 0 {
			i.drop()
			return
		}
		i.mu.Lock()
		i.consume(len(part))
		i.mu.Unlock()
	}
}
