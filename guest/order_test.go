package main

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestArrivalOrder: data, ends and resets of several streams that arrive in one read reach their sockets in order.
func TestArrivalOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as in main
	const pairs = 400
	channelEnds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	watch, watchErr := syscall.EpollCreate1(0)
	if err != nil || watchErr != nil {
		t.Fatal(err, watchErr)
	}
	conn := func(fd int) socket {
		file := os.NewFile(uintptr(fd), "")
		defer file.Close()
		conn, _ := net.FileConn(file)
		return conn.(socket)
	}
	s := newTestSession(false)
	l, peer, sequence := s.link, conn(channelEnds[1]), uint32(0)
	l.conn, s.lastPeerID = newQuick(conn(channelEnds[0])), 4
	frame := func(to []byte, kind byte, id uint32) []byte {
		sequence++
		switch kind {
		case frameData:
			return s.checkIn.appendData(to, id, []byte("x"), sequence)
		case frameReset:
			return appendFrame(to, kind, id, encodeReason(failf("cancelled", "")), sequence)
		}
		return appendFrame(to, kind, id, nil, sequence)
	}
	var spliced sync.WaitGroup
	var far [2]int
	open := func() {
		for index := range far {
			ends, _ := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
			event := syscall.EpollEvent{Events: syscall.EPOLLIN | 1<<31, Fd: int32(index)} // edge-triggered
			syscall.EpollCtl(watch, syscall.EPOLL_CTL_ADD, ends[1], &event)
			far[index] = ends[1]
			l.Lock()
			st := newStream(s, uint32(2+2*index), &s.peers)
			st.setAnswered()
			l.Unlock()
			spliced.Add(1)
			go func() {
				splice(st, conn(ends[0]), nil)
				spliced.Done()
			}()
			l.Lock()
			await(l, time.Minute, func() bool { return st.direct != nil })
			l.Unlock()
		}
	}
	// first sends two frames in one write, and returns which socket saw its own first.
	first := func(early, late byte, swap int) int {
		peer.Write(frame(frame(nil, early, uint32(2+2*swap)), late, uint32(4-2*swap)))
		seen := []int32{}
		for len(seen) < 2 {
			var events [2]syscall.EpollEvent
			count, _ := syscall.EpollWait(watch, events[:], -1)
			for _, event := range events[:most(count)] {
				seen = append(seen, event.Fd)
				syscall.Read(far[event.Fd], make([]byte, 16))
			}
		}
		return int(seen[0])
	}
	go l.readAll()
	open()
	for pair := 0; pair < pairs; pair++ {
		if first(frameData, frameData, pair%2) != pair%2 {
			t.Fatal("data out of order", pair)
		}
	}
	for _, kinds := range [][2]byte{{frameFin, frameData}, {frameData, frameFin}, {frameFin, frameFin}, {frameData, frameReset}} {
		if first(kinds[0], kinds[1], 0) != 0 {
			t.Error("out of order", kinds)
		}
		l.Lock()
		for _, st := range s.streams {
			st.reset(failf("cancelled", ""))
		}
		l.Unlock()
		spliced.Wait()
		for _, fd := range far {
			syscall.Close(fd)
		}
		open()
	}
	l.stop(failf("shutdown", ""))
}

func most(count int) int {
	if count < 0 { // interrupted
		return 0
	}
	return count
}

// TestStartOrder: streams that were opened in one read are served in order.
func TestStartOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as in main
	s, began := newTestSession(false), make(chan uint32, 100)
	s.link.channel.services["note"] = func(st *stream) { began <- st.id }
	s.link.Lock()
	for id := uint32(2); id < 100; id += 2 {
		s.handleOpen(id, encode(fields{"service": "note"}))
	}
	s.link.Unlock()
	for id := uint32(2); id < 100; id += 2 {
		if first := <-began; first != id {
			t.Fatal(id, first)
		}
	}
}

// TestUrgent: an urgent byte of a forwarded connection is not lost, from either end.
func TestUrgent(t *testing.T) {
	listener, err := address{network: "tcp", text: "127.0.0.1:0"}.listen()
	if err != nil {
		t.Fatal(err)
	}
	dialled, _ := address{network: "tcp", text: listener.Addr().String()}.dial(nil)
	accepted, _ := listener.Accept()
	for _, ends := range [][2]net.Conn{{dialled, accepted}, {accepted, dialled}} {
		raw, _ := ends[0].(socket).SyscallConn()
		ends[0].Write([]byte("a"))
		raw.Control(func(fd uintptr) { syscall.SendmsgN(int(fd), []byte("b"), nil, nil, syscall.MSG_OOB) })
		ends[0].Write([]byte("c"))
		came := make([]byte, 3)
		ends[1].SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadFull(ends[1], came); err != nil || string(came) != "abc" {
			t.Errorf("%q, %v", came, err)
		}
	}
}
