package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// vectors are the frames, in hex, that docs/protocol.md refers to.
var vectors struct {
	Nonces   []string
	Sessions []struct {
		Integrity string
		Nonces    []string
		Frames    []vector
	}
	Single []vector
	Wrong  []vector
}

type vector struct {
	What, Type, Integrity, Hex, Code string
	Sequence, Stream                 uint32
}

func init() {
	log.level = logError
	text, _ := os.ReadFile("../spec/fixtures/frames.json")
	if err := json.Unmarshal(text, &vectors); err != nil {
		panic(err)
	}
}

func unhex(text string) []byte {
	bytes, _ := hex.DecodeString(text)
	return bytes
}

func readerOf(bytes []byte) *bufio.Reader {
	return bufio.NewReaderSize(strings.NewReader(string(bytes)), 1<<18)
}

func TestFrames(t *testing.T) {
	test := func(frame vector, check dataCheck) {
		bytes := unhex(frame.Hex)
		h, ok := readHeader(bytes, frame.Sequence)
		if failed := h.judge(131072); !ok || h.stream != frame.Stream || failed != nil {
			t.Errorf("%s %d: %v, %v, %v", frame.Type, frame.Sequence, h, ok, failed)
		}
		if h.isExtension() {
			return
		}
		payload, failed := check.verify(h, bytes[headerBytes:], frame.Sequence)
		again := appendFrame(nil, h.kind, h.stream, payload, frame.Sequence)
		if h.kind == frameData {
			again = check.appendData(nil, h.stream, payload, frame.Sequence)
		}
		if hex.EncodeToString(again) != frame.Hex || failed != nil {
			t.Errorf("%s %d: written as %x, %v", frame.Type, frame.Sequence, again, failed)
		}
	}
	for _, session := range vectors.Sessions {
		nonces := append(session.Nonces, vectors.Nonces...)
		for _, frame := range session.Frames {
			test(frame, newDataCheck(session.Integrity == "full", nonces[0], nonces[1]))
		}
	}
	for _, frame := range vectors.Single {
		test(frame, newDataCheck(frame.Integrity == "full", vectors.Nonces[0], vectors.Nonces[1]))
	}
}

// newTestSession returns a session on a channel that nobody reads.
func newTestSession(isFull bool) *session {
	c := newChannel(&channelSpec{}, "")
	c.services["hold"] = (*stream).waitEnd
	side := func(nonce string) *hello {
		return &hello{nonce: nonce, limits: limits{131072, 65536, 1048576, 1024, 256}, isFull: isFull}
	}
	conn, _ := net.Pipe()
	l := newLink(c, conn)
	l.session = newSession(l, side(vectors.Nonces[1]), side(vectors.Nonces[0]))
	l.session.isReady, l.isLast = true, true
	return l.session
}

func TestWrongFrames(t *testing.T) {
	for _, each := range vectors.Wrong {
		s := newTestSession(each.Integrity != "frame")
		s.read(s.link, readerOf(unhex(each.Hex)))
		if s.over == nil || s.over.code != each.Code {
			t.Errorf("%s: %v", each.What, s.over)
		}
	}
}

// FuzzRead reads any bytes as the frames of a session, each with a valid header checksum, and with any credit.
func FuzzRead(f *testing.F) {
	for _, frame := range append(vectors.Single, vectors.Sessions[0].Frames...) {
		f.Add(unhex(frame.Hex))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		s := newTestSession(true)
		for len(input) >= 4 && s.over == nil {
			length := least(int(input[3]), len(input)-4)
			payload := input[4 : 4+length]
			frame := appendFrame(nil, input[0], uint32(input[1]), payload, s.sequenceIn)
			input = input[4+length:]
			s.read(s.link, readerOf(frame))
		}
		s.link.Lock()
		s.link.close(failf("shutdown", ""))
		s.link.Unlock()
	})
}

func TestFlow(t *testing.T) {
	now, budget := time.Now(), 100_000
	w := window{first: 1000, size: 1000, granted: 1000}
	if w.release(499, now, &budget) || !w.release(1, now, &budget) || w.granted != 1500 {
		t.Error(w)
	}
	if !w.release(500, now.Add(growthTime/2), &budget) || w.size != 2000 || w.granted != 3000 || budget != 99_000 {
		t.Error(w, budget)
	}
	if !w.release(1000, now.Add(time.Second), &budget) || w.size != 2000 {
		t.Error(w, "grew although it was slow")
	}
	tokens, count := newTokens(10, 20, now), 0
	for ; tokens.take(now); count++ {
	}
	if count != 20 || !tokens.take(now.Add(100*time.Millisecond)) || tokens.take(now.Add(150*time.Millisecond)) {
		t.Error(count, tokens)
	}
}

// TestOrder: frames are written in the order of their numbers, also those that others bring about.
func TestOrder(t *testing.T) {
	s := newTestSession(true)
	for id := uint32(2); id < 20; id += 2 {
		st := newStream(s, id, &s.peers)
		st.isAnswered, st.finWanted, st.out = true, true, []byte("data")
		s.control(frameAccept, id, nil)
		st.offer()
	}
	s.pong, s.creditDue = make([]byte, 8), true
	written, number := s.fill(nil), uint32(1)
	for ; len(written) > 0; number++ {
		h, isRight := readHeader(written, number)
		if !isRight {
			t.Fatalf("frame %d: wrong number", number)
		}
		written = written[headerBytes+h.length:]
	}
	if number != 1+9*3+2 {
		t.Error(number)
	}
}

func nested(levels int) string {
	return strings.Repeat("[", levels) + strings.Repeat("]", levels)
}

func TestStorageMessages(t *testing.T) {
	for input, code := range map[string]string{
		" {\"a\":\"}\",\n\"b\":[{}]}\n\n": "",
		`{"a":"\"}"}`:                     "",
		`{"a":1`:                          "storage-unavailable",
		``:                                "storage-unavailable",
		"not json\n{}":                    "storage-bad-reply",
		"[1]":                             "storage-bad-reply",
		"{}{}":                            "cancelled",
		`{"a":"` + strings.Repeat("x", 200_000) + `"}`: "storage-bad-reply",
		`{"a":[` + strings.Repeat("0,", 70000) + `0]}`: "storage-bad-reply",
		`{"a":` + nested(999) + `}`:                    "",
		`{"a":` + nested(1000) + `}`:                   "storage-bad-reply",
	} {
		_, _, failed := readMessage(strings.NewReader(input), "reply", 150_000)
		if (failed == nil) != (code == "") || failed != nil && failed.code != code {
			t.Errorf("%.40q: %v", input, failed)
		}
	}
	for text, want := range map[string]bool{
		`{"stdout":"a","stderr":"","status":0}`:                    true,
		`{"stdoutBase64":"/w==","stderr":"","status":255}`:         true,
		`{"stdout":"","stdoutBase64":"/w","stderr":"","status":0}`: false,
		`{"stdout":"","stderr":"","status":256}`:                   false,
		`{"stdout":"","status":0}`:                                 false,
	} {
		if _, failed := readReply(parseObject([]byte(text), "storage reply")); (failed == nil) != want {
			t.Errorf("%s: %v", text, failed)
		}
	}
}

func TestTexts(t *testing.T) {
	o, err := parseOptions(strings.Fields("-cvirtserial-open:org.vproxy.0 -i ssh:22 --incoming=web:[::1]:80 -vv " +
		"--name vm1 -o log:/run/log.sock:- --allow-exec"))
	if err != nil || o.incoming[1].address.text != "[::1]:80" || o.outgoing[0].address.text != "/run/log.sock" ||
		o.logLevel != logDebug || !o.allowsExec || !o.channel.leadsToHost() {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parseOptions([]string{"-ctty-open:/dev/pts/3"}); err != nil || o.channel.leadsToHost() {
		t.Errorf("a pseudo-terminal: %+v, %v", o, err)
	}
	for got, want := range map[string]string{
		escape("a\x1b[2J\n\\\u202e\xffé", 20): `a\x1b[2J\n\\\u202e\xffé`,
		escape("abcdef", 3):                   "abc…",
		string(encodeASCII("é😀\x7f")):         `"\u00e9\ud83d\ude00\u007f"` + "\n",
	} {
		if got != want {
			t.Error(got)
		}
	}
}

func TestThatCredentialsWhichCannotBeReadAreRefused(t *testing.T) {
	c := newChannel(&channelSpec{}, "")
	folder := t.TempDir()
	file := filepath.Join(folder, "vproxy.key")
	for _, name := range []string{file, file + ".old", file + "s"} {
		os.WriteFile(name, []byte(strings.Repeat("1f", 32)), 0o600)
	}
	for place, count := range map[string]int{folder: 2, folder + "/none": 0, file: -1} {
		t.Setenv("CREDENTIALS_DIRECTORY", place)
		failed := c.readKeys(nil)
		if count < 0 && failed == nil || count >= 0 && (failed != nil || len(c.keys) != count) {
			t.Errorf("%s: %d keys, %v", place, len(c.keys), failed)
		}
	}
}

func TestThatOnlyItsOwnerReadsAKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	os.WriteFile(file, []byte(strings.Repeat("1f", 32)), 0o600)
	for _, mode := range []os.FileMode{0o600, 0o400, 0o640, 0o604} {
		os.Chmod(file, mode)
		if _, err := readKey(file); (err == nil) != (mode&0o077 == 0) {
			t.Errorf("%o: %v", mode, err)
		}
	}
}

func TestUnspecifiedAddress(t *testing.T) {
	for text, want := range map[string]string{"0.0.0.0:0": "0.0.0.0", "[::ffff:0.0.0.0]:0": "0.0.0.0", "[::]:0": "::"} {
		place, _ := parseAddress(text)
		listener, err := place.listen()
		if err != nil {
			t.Fatal(text, err)
		}
		if host, _, _ := net.SplitHostPort(listener.Addr().String()); host != want {
			t.Error(text, host)
		}
		listener.Close()
	}
}
