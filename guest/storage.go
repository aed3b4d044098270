package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf16"
)

const (
	storageName     = "storage" // of the service by which emulators are found, at either side
	storageSocket   = "/run/vproxy/storage.sock"
	requestTime     = 10 * time.Second
	replyTime       = time.Minute
	lingerTime      = 5 * time.Second
	probeEvery      = time.Second
	wrapperTime     = 30 * time.Second
	maxStorageCalls = 64
	maxEmulators    = 64
	singleRead      = 1024 // bytes, which an emulator reads that uses one recv
)

// broker passes the calls of wrappers, one at a time, to an emulator: one that the peer attaches, or else the peer's
// service (docs/storage.md).
type broker struct {
	channel  *channel
	calls    chan *storageCall
	mu       sync.Mutex
	attached []*emulator
}

// storageCall is a call that has no answer yet.
type storageCall struct {
	argv    []string
	request []byte
	began   time.Time
	answer  chan []byte
	gone    chan struct{} // closed when its wrapper has exited
}

// emulator answers calls on one stream.
type emulator struct {
	name    string
	stream  *stream
	isPeer  bool // the peer's service, on a stream for one call
	isAsked bool // guarded by the lock of the stream
}

func newBroker(c *channel) *broker {
	b := &broker{channel: c, calls: make(chan *storageCall)}
	c.services[storageName] = b.attach
	go b.answerAll()
	return b
}

// listen listens for wrappers: at an explicit path, which must work, or at the default, which need not.
func (b *broker) listen(explicit string) error {
	path := explicit
	if explicit == "" {
		path = storageSocket
		os.MkdirAll(filepath.Dir(path), 0o700)
	}
	listener, err := address{network: "unix", text: path}.listen()
	switch {
	case err == nil:
		logLine(logInfo, "listening on %s for storage calls", path)
		b.channel.sockets = append(b.channel.sockets, path)
		go acceptAll(listener, maxStorageCalls, b.serveWrapper)
	case explicit == "":
		logLine(logWarn, "not serving storage calls: %s", err)
		return nil
	}
	return err
}

func (b *broker) serveWrapper(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestTime))
	c := &storageCall{began: time.Now(), answer: make(chan []byte, 1), gone: make(chan struct{})}
	_, o, failed := readMessage(conn, "request", storageRequestBytes)
	if failed == nil {
		c.argv = o.texts("argv", isAny)
		o.require(len(c.argv) > 0, "argv", "must be a non-empty list of strings")
		failed = storageBad("request", *o.failed)
	}
	if failed != nil {
		conn.Write(c.fail(failed))
		return
	}
	request := fields{"argv": c.argv}
	if b.channel.name != "" {
		request["vm"] = b.channel.name
	}
	c.request = encodeASCII(request)
	calls := b.calls
	for {
		answer := []byte(" ") // JSON ignores a space; a wrapper that has gone does not take it
		select {
		case calls <- c:
			calls = nil
			continue
		case answer = <-c.answer:
		case <-time.After(probeEvery):
		}
		conn.SetDeadline(time.Now().Add(replyTime))
		_, err := conn.Write(answer)
		if len(answer) > 1 {
			return
		}
		if err != nil {
			close(c.gone) // no other call may get its reply
			c.fail(failf("cancelled", "the wrapper disconnected before its answer"))
			return
		}
	}
}

// answerAll finds an emulator for one call after the other. One that has not read a call may do so later.
func (b *broker) answerAll() {
	for c := range b.calls {
		for isAnswered := false; !isAnswered; {
			if e := b.findEmulator(); e != nil {
				isAnswered = e.ask(c)
			}
			select {
			case <-c.gone:
				isAnswered = true
			default:
				if !isAnswered {
					time.Sleep(firstRetry)
				}
			}
		}
	}
}

func (b *broker) findEmulator() *emulator {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.attached {
		if e.take() {
			return e
		}
	}
	if len(b.attached) > 0 || !b.channel.isOffered(storageName) {
		return nil
	}
	st, failed := b.channel.open(storageName, "", 0)
	if failed != nil {
		return nil
	}
	return &emulator{name: "peer", stream: st, isPeer: true, isAsked: true}
}

// attach keeps an emulator that the peer connects to this side.
func (b *broker) attach(st *stream) {
	e := &emulator{name: fmt.Sprintf("attached on stream %d", st.id), stream: st}
	b.mu.Lock()
	hasRoom := len(b.attached) < maxEmulators
	if hasRoom && st.accept() {
		b.attached = append(b.attached, e)
	}
	b.mu.Unlock()
	if !hasRoom {
		st.Reset("too-many-streams", "too many emulators (max %d)", maxEmulators)
		return
	}
	logLine(logDebug, "storage emulator %s attached", e.name)
	failed := e.waitUnasked()
	b.mu.Lock()
	defer b.mu.Unlock()
	for index, each := range b.attached {
		if each == e {
			b.attached = append(b.attached[:index], b.attached[index+1:]...)
			break
		}
	}
	st.Close()
	logLine(logDebug, "storage emulator %s detached: %s (%s)", e.name, failed.message, failed.code)
}

// take reserves the emulator for a call; false if it cannot be asked any more.
func (e *emulator) take() bool {
	defer e.stream.lock()()
	e.isAsked = !e.stream.isOver && !e.stream.finCame && len(e.stream.in) == 0
	return e.isAsked
}

// waitUnasked waits until the stream has ended, or has bytes other than white space that no call asked for.
func (e *emulator) waitUnasked() *failure {
	st := e.stream
	defer st.lock()()
	for {
		err := st.waitData()
		switch {
		case e.isAsked && !st.isOver:
			st.changed.Wait()
		case err != nil:
			return toFailure(err, "storage-unavailable")
		default:
			left := bytes.TrimLeft(st.in, " \r\n\t")
			st.release(len(st.in) - len(left))
			if st.in = left; len(left) > 0 {
				return unasked()
			}
		}
	}
}

func unasked() *failure { return failf("cancelled", "it sent data that was not asked for") }

// end ends a call. The stream of a service ends in order, or is reset if the peer does not end it, too.
func (e *emulator) end() {
	unlock := e.stream.lock()
	e.isAsked = false
	e.stream.changed.Broadcast()
	unlock()
	if e.isPeer {
		e.stream.CloseWrite()
		late := time.AfterFunc(lingerTime, e.stream.Close)
		go func() {
			e.stream.drain()
			late.Stop()
		}()
	}
}

// ask sends a request, and answers the call with the reply, or with why there is none: then the stream has ended. False:
// no emulator can have read it, and it has no answer.
func (e *emulator) ask(c *storageCall) bool {
	answered := make(chan struct{})
	defer e.end()
	defer close(answered)
	go func() {
		select {
		case <-c.gone:
			e.stream.Reset("cancelled", "storage call cancelled after its request was sent")
		case <-answered:
		}
	}()
	before := e.stream.received()
	var message []byte
	var o object
	var reply *storageReply
	_, err := e.stream.Write(c.request)
	failed := toFailure(err, "storage-unavailable")
	if err == nil {
		message, o, failed = readMessage(e.stream, "reply", storageReplyBytes)
	}
	if failed == nil {
		reply, failed = readReply(o)
	}
	if failed == nil {
		logLine(logInfo, "storage call %s: status %d, %d ms", c.line(), reply.status, time.Since(c.began).Milliseconds())
		c.answer <- append(message, '\n')
		return true
	}
	isReceived := e.stream.received() > before
	e.stream.Close()
	if !isReceived && isWord(failed.code, "unknown-service connect-refused too-many-streams") {
		logLine(logDebug, "storage emulator %s refused: %s (%s)", e.name, failed.message, failed.code)
		return false
	}
	code, what := "storage-unavailable", failed.message
	if failed.code == "storage-bad-reply" {
		code = failed.code
	} else if failed.code != code {
		what = failed.code + ": " + what
	}
	if length := len(c.request) - 1; length > singleRead && !isReceived {
		what += fmt.Sprintf("; the request has %d bytes, too many for an emulator that reads with a single recv(%d)",
			length, singleRead)
	}
	c.answer <- c.fail(failf(code, "storage emulator (%s) failed: %s", e.name, what))
	return true
}

func (c *storageCall) line() string { return escape(strings.Join(c.argv, " "), 200) }

// fail logs why a call failed, and returns what the wrapper is told.
func (c *storageCall) fail(why *failure) []byte {
	logLine(logWarn, "storage call %s: %s (%s), %d ms", c.line(), why.message, why.code,
		time.Since(c.began).Milliseconds())
	return append(encode(fields{"error": fields{"code": why.code, "message": why.message}}), '\n')
}

// ---- the wrapper ----

// callStorage is the wrapper, which replaces a storage utility: it makes the storage call of a command line, and
// returns its exit status.
func callStorage(args []string) int {
	reply, failed := askBroker(args)
	if failed != nil {
		fmt.Fprintf(os.Stderr, "vproxy-storage: %s\n", escape(failed.message, 1000))
		return failed.exitStatus()
	}
	for index, to := range []*os.File{os.Stdout, os.Stderr} {
		// A reader that has gone is no error: the status is that of the reply.
		if _, err := to.Write(reply.outputs[index]); err != nil && !errors.Is(err, syscall.EPIPE) {
			fmt.Fprintf(os.Stderr, "vproxy-storage: cannot write the output: %s\n", describe(err))
			return 125
		}
	}
	return reply.status
}

func askBroker(args []string) (*storageReply, *failure) {
	// argv[0] is the absolute path of the link that was called.
	name := args[0]
	if found, err := exec.LookPath(name); err == nil {
		name = found
	}
	if path, err := filepath.Abs(name); err == nil {
		name = path
	}
	request := encodeASCII(fields{"argv": append([]string{name}, args[1:]...)})
	path := os.Getenv("VPROXY_STORAGE_SOCKET")
	if path == "" {
		path = storageSocket
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, failf("storage-unavailable", "no vproxy answers: %s: %s", path, describe(err))
	}
	conn.SetDeadline(time.Now().Add(wrapperTime))
	_, err = conn.Write(request)
	var o object
	var failed *failure
	if err == nil {
		_, o, failed = readMessage(conn, "reply", storageReplyBytes+4096)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), failed != nil && failed.code == "storage-timeout":
		return nil, failf("storage-timeout", "no answer within %g s", wrapperTime.Seconds())
	case err != nil:
		return nil, failf("storage-unavailable", "lost the broker: %s", describe(err))
	case failed != nil:
		return nil, failed
	case o.has("error") && !o.has("status"): // the broker's own failure
		why := o.object("error")
		return nil, &failure{why.text("code"), why.text("message")}
	}
	return readReply(o)
}

// encodeASCII returns a line of JSON without any byte that a locale could spoil.
func encodeASCII(value any) []byte {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	encoder.Encode(value)
	ascii := []byte{}
	for _, unit := range utf16.Encode([]rune(line.String())) {
		if unit < 0x7f {
			ascii = append(ascii, byte(unit))
		} else {
			ascii = append(ascii, fmt.Sprintf(`\u%04x`, unit)...)
		}
	}
	return ascii
}

// storageBad gives a failure of an object the code of the storage protocol; what is the request or the reply.
func storageBad(what string, failed *failure) *failure {
	if failed == nil {
		return nil
	}
	return failf("storage-bad-"+what, "%s", failed.message)
}

// readMessage reads one object of the storage protocol: up to its closing brace, since not everybody ends it with a
// line feed.
func readMessage(from io.Reader, what string, max int) (message []byte, o object, failed *failure) {
	limited := &io.LimitedReader{R: from, N: int64(max) + 1}
	decoder := json.NewDecoder(limited)
	var raw json.RawMessage
	err := decoder.Decode(&raw)
	rest, _ := io.ReadAll(decoder.Buffered())
	var syntax *json.SyntaxError
	switch {
	case limited.N == 0:
		failed = failf("storage-bad-"+what, "the %s is too long (max %d bytes)", what, max)
	case errors.As(err, &syntax), err == nil && raw[0] != '{':
		failed = failf("storage-bad-"+what, `storage %s: not a JSON object: "%s"`, what, escape(string(raw), 100))
	case errors.Is(err, os.ErrDeadlineExceeded):
		failed = failf("storage-timeout", "no complete storage %s in time", what)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		failed = failf("storage-unavailable", "it hung up without a %s", what)
	case err != nil:
		failed = toFailure(err, "storage-unavailable")
	case len(bytes.TrimSpace(rest)) > 0:
		failed = unasked()
	case hasManySigns(raw):
		failed = failf("storage-bad-"+what, "the %s has too many values", what)
	default:
		o = parseObject(bytes.ToValidUTF8(raw, []byte("\uFFFD")), "storage "+what)
	}
	return raw, o, failed
}

type storageReply struct {
	outputs [2][]byte // standard output and error
	status  int
}

func readReply(o object) (*storageReply, *failure) {
	reply := &storageReply{status: o.integer("status", 0, 255)}
	for index, name := range []string{"stdout", "stderr"} {
		if _, isEncoded := o.fields[name+"Base64"]; !isEncoded {
			reply.outputs[index] = []byte(o.text(name))
			continue
		}
		text := o.text(name + "Base64")
		var err error
		reply.outputs[index], err = base64.StdEncoding.DecodeString(text)
		o.require(err == nil && !strings.ContainsAny(text, "\r\n"), name+"Base64", "is not valid base64")
	}
	return reply, storageBad("reply", *o.failed)
}
