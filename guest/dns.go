package main

import (
	"encoding/binary"
	"io"
	"net"
	"time"
)

const (
	maxQuestions = 256 // at a time; more are dropped, unless the oldest is overdue: programs repeat them
	overdueAfter = time.Second
	questionTime = 10 * time.Second
	maxDatagram  = 65507 // bytes that IPv4 carries
)

// listenDNS takes questions to a resolver over UDP, and asks each over a stream of its own, as DNS over TCP does.
func (f *forward) listenDNS(c *channel) error {
	conn, err := net.ListenPacket(f.address.family("udp"), f.address.text)
	if err != nil {
		return f.address.unavailable(err)
	}
	f.address.text = conn.LocalAddr().String()
	logLine(logInfo, "listening", "listening on %s for %s", f.endpoint(), f.service)
	go func() {
		places, starts, asked := make(chan struct{}, maxQuestions), new(queue), new(questions)
		var bytes [65535]byte
		for {
			count, from, err := conn.ReadFrom(bytes[:])
			if err != nil {
				logLine(logWarn, "accept-failed", "cannot receive: %s", describe(err))
				time.Sleep(firstRetry)
				continue
			}
			select {
			case places <- struct{}{}:
			default:
				if !asked.dropOverdue() {
					continue
				}
				places <- struct{}{} // its own, which is free at once
			}
			question := append([]byte{byte(count >> 8), byte(count)}, bytes[:count]...)
			starts.begin(func() {
				if answer := f.ask(c, asked, question, from.String()); answer != nil {
					conn.WriteTo(answer, from)
				}
				<-places
			})
		}
	}()
	return nil
}

// questions are the streams of those that a resolver has accepted and not answered yet, the oldest first.
type questions struct {
	mutex
	open []question
}

type question struct {
	*stream
	since time.Time
}

func (q *questions) add(st *stream) {
	if st.waitAnswer() == nil {
		defer q.lock()()
		q.open = append(q.open, question{st, time.Now()})
	}
}

func (q *questions) remove(st *stream) {
	defer q.lock()()
	for index, each := range q.open {
		if each.stream == st {
			q.open = append(q.open[:index], q.open[index+1:]...)
			return
		}
	}
}

// dropOverdue ends the oldest question, and reports whether it was overdue. One without a stream ends soon by itself.
func (q *questions) dropOverdue() bool {
	defer q.lock()()
	if len(q.open) == 0 || time.Since(q.open[0].since) < overdueAfter {
		return false
	}
	q.open[0].Close()
	q.open = q.open[1:]
	return true
}

// ask returns the answer to a question with its length; nil if there is none.
func (f *forward) ask(c *channel, asked *questions, question []byte, from string) []byte {
	st, refused := c.open(f.service, from, questionTime)
	if refused != nil {
		logLine(logWarn, "stream-refused", "a question to %s was dropped: %s (%s)", f.name(), refused.message, refused.code)
		return nil
	}
	defer st.Close()
	defer time.AfterFunc(questionTime, st.Close).Stop()
	st.Write(question)
	st.CloseWrite()
	asked.add(st)
	defer asked.remove(st)
	var size [2]byte
	if _, err := io.ReadFull(st, size[:]); err != nil {
		return nil
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(st, answer); err != nil {
		return nil
	}
	io.ReadFull(st, size[:1]) // the end
	return fit(answer, question[2:])
}

// fit marks an answer as truncated if it is longer than the program accepts over UDP (RFC 1035, RFC 6891).
func fit(answer, question []byte) []byte {
	end, limit := 12, 512
	for end < len(question) && question[end] > 0 && question[end] < 64 {
		end += int(question[end]) + 1
	}
	end += 5
	if len(question) >= end+5 && question[end] == 0 && binary.BigEndian.Uint16(question[end+1:]) == 41 {
		if size := int(binary.BigEndian.Uint16(question[end+3:])); size > limit {
			limit = size
		}
		if limit > maxDatagram {
			limit = maxDatagram
		}
	}
	if len(answer) <= limit || len(answer) < end {
		return answer
	}
	short := append([]byte(nil), answer[:end]...)
	short[2] |= 2 // TC
	copy(short[6:12], make([]byte, 6))
	return short
}
