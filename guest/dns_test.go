package main

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestFit: an answer that is longer than the program accepts over UDP becomes its header and question, with TC.
func TestFit(t *testing.T) {
	question := append([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"), "\x03abc\x04test\x00\x00\x01\x00\x01"...)
	withOpt := func(size string) []byte {
		return append(append([]byte(nil), question...), "\x00\x00\x29"+size+"\x00\x00\x00\x00\x00\x00"...)
	}
	answer := func(length int) []byte {
		whole := append([]byte(nil), question...)
		whole[2], whole[7], whole[11] = 0x81, 9, 1
		return append(whole, make([]byte, length-len(whole))...)
	}
	short := append([]byte(nil), question...)
	short[2] = 0x83
	for _, each := range []struct {
		question []byte
		length   int
		isWhole  bool
	}{
		{question, 512, true}, {question, 513, false}, {withOpt("\x04\xd0"), 1232, true}, {withOpt("\x04\xd0"), 1233, false},
		{withOpt("\x00\x64"), 512, true}, {withOpt("\xff\xff"), 65507, true}, {withOpt("\xff\xff"), 65508, false}, {nil, 100, true},
	} {
		whole := answer(each.length)
		if found := fit(whole, each.question); !bytes.Equal(found, either(each.isWhole, whole, short)) {
			t.Errorf("%d bytes for %x: %x", each.length, each.question, found)
		}
	}
}

// TestOverdue: questions without an answer take the place of others only until they are overdue.
func TestOverdue(t *testing.T) {
	machine, host := pair(t)
	taken := make(chan bool, 1)
	host.services["dns"] = func(st *stream) {
		var question [3]byte
		st.accept()
		io.ReadFull(st, question[:])
		if question[2] == 'a' {
			st.Write([]byte("\x00\x01b"))
			st.CloseWrite()
		} else {
			taken <- true
		}
		st.waitEnd()
	}
	f := &forward{"dns", address{"tcp", "127.0.0.1:0", 0}, "udp"}
	if err := f.listenDNS(machine); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("udp", f.address.text)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	begun, answer := time.Now(), make([]byte, 1)
	for count := 0; count < maxQuestions; count++ {
		conn.Write([]byte("q"))
		<-taken
	}
	for answer[0] != 'b' && time.Since(begun) < questionTime {
		conn.Write([]byte("a"))
		conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		conn.Read(answer)
	}
	if after := time.Since(begun); answer[0] != 'b' || after < overdueAfter {
		t.Errorf("%q after %s", answer, after)
	}
}
