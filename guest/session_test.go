package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"testing/iotest"
)

// TestLengths: a length of 2^31 or more is no negative one where an int has 32 bits, also before AUTH.
func TestLengths(t *testing.T) {
	for _, length := range []int{-1 << 31, -1} {
		s := newTestSession(false)
		s.isReady = false
		s.read(s.link, readerOf(appendHeader(nil, frameData, 2, length, 0, 1)))
		h, _, _ := readHello(readerOf(appendHeader([]byte(magic), frameHello, 0, length, 0, 0)))
		start := binary.BigEndian.AppendUint32([]byte{execStdin}, uint32(length))
		_, _, err := readRecord(readerOf(start), func(byte) int { return 15 })
		if s.over == nil || h != nil || s.over.code != "protocol-error" || toFailure(err, "").code != "protocol-error" {
			t.Error(length, s.over, h, err)
		}
	}
}

// TestTotals: a session continues beyond 2^31 bytes each way. What is not read takes the memory of its window, whatever
// other streams left in the pool.
func TestTotals(t *testing.T) {
	const far = 1<<31 - 1
	large := make([]byte, maxWindow)
	memory.Put(&large)
	u64 := func(total uint64) []byte { return binary.BigEndian.AppendUint64(nil, total) }
	s := newTestSession(false)
	st := newStream(s, 2, &s.peers)
	st.isAnswered, s.lastPeerID, s.receivedData, s.inFlight = true, 2, far, far+1000
	st.window.received, st.window.released, st.window.granted = far, far, far+1000
	s.limit, s.acked, s.written = 1000, far, far
	s.handleData(header{stream: 2}, make([]byte, 1000))
	st.release(1000)
	written := s.collect(nil)
	isKept := bytes.Equal(s.kept, written) && !s.hasFrames()
	s.drop(far+20, s.written)
	raise(&s.credit, u64(far+1000))
	raise(&st.credit, u64(1<<64-1))
	raise(&st.credit, u64(5))
	st.sent, st.out = far, make([]byte, 2000)
	if s.over != nil || !isKept || !bytes.Equal(s.kept[s.gone:], written[20:]) || cap(st.in) > st.window.size || s.credit != far+1000 || st.credit != maxInteger || st.sendable() != 2000 ||
		!bytes.Contains(written, u64(far+1000+1<<20)) || !bytes.Contains(written, u64(far+1000+1<<16)) {
		t.Errorf("%v, %d, %d, %d, %d, %x", s.over, cap(st.in), s.credit, st.credit, st.sendable(), written)
	}
}

// holder tells how much memory the data of a Write has, and fails.
type holder chan int

func (h holder) Write(data []byte) (int, error) {
	h <- cap(data)
	return 0, io.ErrClosedPipe
}

// TestHeld: what a writer holds and what came meanwhile take half a window more at most.
func TestHeld(t *testing.T) {
	s := newTestSession(false)
	for cap(*memory.Get().(*[]byte)) > 0 {
	}
	st := newStream(s, 2, &s.peers)
	st.isAnswered, s.lastPeerID = true, 2
	half := make([]byte, st.window.size/2)
	s.handleData(header{stream: 2}, half)
	held := make(holder)
	go st.writeTo(held)
	first := <-held
	defer st.lock()()
	s.handleData(header{stream: 2}, half)
	if size := st.window.size; s.over != nil || len(st.in) != size/2 || first+cap(st.in) > size*3/2 {
		t.Error(s.over, len(st.in), first, cap(st.in))
	}
}

// TestLateKey: a side that has a key accepts no session without AUTH, also if the key came after its HELLO.
func TestLateKey(t *testing.T) {
	s := newTestSession(false)
	if _, failed := s.agree([]key{{id: "01234567"}}); failed == nil || failed.code != "auth-failed" {
		t.Error(failed)
	}
}

// TestLostBytes: the PONG within a frame that was incomplete shows that some of it is lost, also in parts (R-LIVE-4).
func TestLostBytes(t *testing.T) {
	for _, isMidFrame := range []bool{true, false} {
		s := newTestSession(true)
		s.isMidFrame, s.sentFrames, s.arrivedAt = isMidFrame, 1, s.arrivedAt.Add(-doubtAfter)
		s.look()
		frame := appendFrame(nil, 0x80, 0, append(s.ping, make([]byte, 100)...), 1)
		s.read(s.link, bufio.NewReader(iotest.OneByteReader(bytes.NewReader(frame))))
		if (s.over != nil) != isMidFrame {
			t.Error(isMidFrame, s.over)
		}
	}
}

// TestCrowd: a machine that opens connections in a loop closes its own, first one that has not answered.
func TestCrowd(t *testing.T) {
	for machine, isClosed := range map[string]bool{"": true, "other": false} {
		s := newTestSession(false)
		c, silent := s.link.channel, newLink(s.link.channel, s.link.conn)
		c.links[silent] = true
		for len(c.links) < maxUnproved {
			l := newLink(c, s.link.conn)
			l.session = s
			if len(c.links) < 8 {
				l.machine = "other"
			}
			c.links[l] = true
		}
		silent.machine = machine
		c.makeRoom(newLink(c, nil))
		if c.links[silent] == isClosed || len(c.links) != maxUnproved-1 {
			t.Error(machine, len(c.links))
		}
	}
}
