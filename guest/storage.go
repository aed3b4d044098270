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
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	storageName     = "storage" // of the service by which emulators are found, at either side
	requestTime     = 10 * time.Second
	replyTime       = time.Minute
	lingerTime      = 5 * time.Second
	probeEvery      = time.Second
	maxStorageCalls = 1024
	maxEmulators    = 64
	maxStorageHeld  = 128 << 20
	singleRead      = 1024 // bytes, which an emulator reads that uses one recv
)

// broker passes each call of a wrapper to one emulator: one that the peer attaches, or else the peer's service
// (docs/storage.md).
type broker struct {
	channel  *channel
	calls    chan *storageCall // for any attached emulator
	turn     chan struct{}     // taken by the call that uses the peer's service
	attached atomic.Int64
	held     atomic.Int64 // bytes of requests and replies
}

// storageCall is a call that has no answer yet.
type storageCall struct {
	argv    []string
	request []byte
	began   time.Time
	answer  chan []byte
	gone    chan struct{} // closed when its wrapper has exited
}

func newBroker(c *channel) *broker {
	b := &broker{channel: c, calls: make(chan *storageCall), turn: make(chan struct{}, 1)}
	c.services[storageName] = b.attach
	return b
}

// listen listens for wrappers: at an explicit path, which must work, or at the first default that does.
func (b *broker) listen(explicit string) error {
	paths := storagePaths()
	if explicit != "" {
		paths = []string{explicit}
	}
	var failed *failure
	for _, path := range paths {
		os.MkdirAll(filepath.Dir(path), 0o700)
		listener, err := address{network: "unix", text: path}.listen()
		if err == nil {
			logLine(logInfo, "listening on %s for storage calls", path)
			b.channel.sockets = append(b.channel.sockets, path)
			go acceptAll(listener, maxStorageCalls, b.serveWrapper)
			return nil
		}
		// Wrappers would find the other process first.
		if failed = toFailure(err, "internal"); failed.code == "address-in-use" {
			break
		}
	}
	if explicit != "" {
		return failed
	}
	logLine(logWarn, "not serving storage calls: %s", failed.message)
	return nil
}

func (b *broker) serveWrapper(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestTime))
	c := &storageCall{began: time.Now(), answer: make(chan []byte, 1), gone: make(chan struct{})}
	from := &heldReader{b, conn, 0}
	defer from.release()
	_, o, failed := readMessage(from, "request", storageRequestBytes)
	if failed == nil {
		c.argv = o.texts("argv", isAny)
		o.require(len(c.argv) > 0, "argv", "must be a non-empty list of strings")
		failed = storageBad("request", *o.failed)
	}
	if failed != nil {
		c.log(0, failed)
		conn.Write(storageFailure(failed))
		return
	}
	request := fields{"argv": c.argv}
	if b.channel.name != "" {
		request["vm"] = b.channel.name
	}
	c.request = encodeASCII(request)
	go b.answer(c)
	for {
		answer := []byte(" ") // JSON ignores a space; a wrapper that has gone does not take it
		select {
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
			c.log(0, failf("cancelled", "the wrapper disconnected before its answer"))
			return
		}
	}
}

// answer finds an emulator for a call.
func (b *broker) answer(c *storageCall) {
	for {
		turn := b.turn
		if b.attached.Load() > 0 || !b.channel.isOffered(storageName) {
			turn = nil
		}
		select {
		case <-c.gone:
			return
		case b.calls <- c:
			return
		case turn <- struct{}{}:
			isAnswered := b.askPeer(c)
			if <-b.turn; isAnswered {
				return
			}
			time.Sleep(firstRetry) // an emulator that has not read the call may do so later
		case <-time.After(firstRetry):
		}
	}
}

// askPeer makes a call to the peer's service, on a stream of its own. False: no emulator can have read it.
func (b *broker) askPeer(c *storageCall) bool {
	st, failed := b.channel.open(storageName, "", 0)
	if failed == nil {
		e := &emulator{broker: b, name: "peer", stream: st}
		if failed = e.ask(c); failed == nil || !e.isUnread(failed) {
			go func() {
				// The stream ends in order after its call, or is reset if the peer does not end it, too.
				st.CloseWrite()
				defer time.AfterFunc(lingerTime, st.Close).Stop()
				st.drain()
			}()
			return true
		}
	}
	logLine(logDebug, "storage emulator peer refused: %s (%s)", failed.message, failed.code)
	return false
}

// attach serves an emulator that the peer connects to this side.
func (b *broker) attach(st *stream) {
	defer b.attached.Add(-1)
	if b.attached.Add(1) > maxEmulators {
		st.Reset("too-many-streams", "too many emulators (max %d)", maxEmulators)
		return
	}
	if !st.accept() {
		return
	}
	e := &emulator{broker: b, name: fmt.Sprintf("attached on stream %d", st.id), stream: st}
	logLine(logDebug, "storage emulator %s attached", e.name)
	var failed *failure
	for failed == nil {
		idle := make(chan *failure, 1)
		go func() { idle <- st.waitUnasked() }()
		select {
		case c := <-b.calls:
			failed = e.ask(c)
		case failed = <-idle:
		}
	}
	st.Close()
	logLine(logDebug, "storage emulator %s detached: %s (%s)", e.name, failed.message, failed.code)
}

// waitUnasked waits for the end of a stream, or for bytes other than white space, and returns why nobody wants them.
func (st *stream) waitUnasked() *failure {
	defer st.lock()()
	for {
		if err := st.waitData(); err != nil {
			return toFailure(err, "storage-unavailable")
		}
		left := bytes.TrimLeft(st.in, " \r\n\t")
		st.release(len(st.in) - len(left))
		if st.in = left; len(left) > 0 {
			return unasked()
		}
	}
}

func unasked() *failure { return failf("cancelled", "it sent data that was not asked for") }

// emulator answers calls on one stream, one at a time.
type emulator struct {
	broker     *broker
	name       string
	stream     *stream
	isReceived bool // something of the reply
}

// ask sends a request, and answers the call with the reply, or with why there is none: then the stream has ended. A
// call that no emulator can have read gets no answer.
func (e *emulator) ask(c *storageCall) *failure {
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-c.gone:
			e.stream.Reset("cancelled", "storage call cancelled after its request was sent")
		case <-answered:
		}
	}()
	from := &heldReader{e.broker, e.stream, 0}
	defer from.release()
	var message []byte
	var o object
	var reply *storageReply
	_, err := e.stream.Write(c.request)
	failed := toFailure(err, "storage-unavailable")
	if err == nil {
		message, o, failed = readMessage(from, "reply", storageReplyBytes)
	}
	if failed == nil {
		reply, failed = readReply(o)
	}
	e.isReceived = from.count > 0
	if failed == nil {
		c.log(reply.status, nil)
		c.answer <- append(message, '\n')
		return nil
	}
	e.stream.Close()
	if e.isUnread(failed) {
		return failed
	}
	code, what := "storage-unavailable", failed.message
	if failed.code == "storage-bad-reply" {
		code = failed.code
	} else if failed.code != code {
		what = failed.code + ": " + what
	}
	if length := len(c.request) - 1; length > singleRead && !e.isReceived {
		what += fmt.Sprintf("; the request has %d bytes, too many for an emulator that reads with a single recv(%d)",
			length, singleRead)
	}
	told := failf(code, "storage emulator (%s) failed: %s", e.name, what)
	c.log(0, told)
	c.answer <- storageFailure(told)
	return failed
}

// isUnread tells a failure after which no emulator can have read the request.
func (e *emulator) isUnread(failed *failure) bool {
	return !e.isReceived && isWord(failed.code, "unknown-service connect-refused too-many-streams")
}

// heldReader counts what is held of what is read: all calls share its bound.
type heldReader struct {
	broker *broker
	from   io.Reader
	count  int64
}

func (h *heldReader) Read(to []byte) (int, error) {
	count, err := h.from.Read(to)
	h.count += int64(count)
	if h.broker.held.Add(int64(count)) > maxStorageHeld {
		return 0, failf("storage-unavailable", "too many bytes buffered for storage calls")
	}
	return count, err
}

func (h *heldReader) release() { h.broker.held.Add(-h.count) }

func (c *storageCall) log(status int, failed *failure) {
	command := escape(strings.Join(c.argv, " "), 200)
	duration := time.Since(c.began).Milliseconds()
	if failed == nil {
		logLine(logInfo, "storage call %s: status %d, %d ms", command, status, duration)
		return
	}
	logLine(logWarn, "storage call %s: %s (%s), %d ms", command, failed.message, failed.code, duration)
}

// ---- the wrapper ----

// storagePaths are where the broker listens: the first that can be used.
func storagePaths() []string {
	paths := []string{"/run/vproxy/storage.sock"}
	if folder := os.Getenv("XDG_RUNTIME_DIR"); folder != "" {
		paths = append(paths, filepath.Join(folder, "vproxy/storage.sock"))
	}
	return paths
}

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
	seconds := 30.0
	if text := os.Getenv("VPROXY_STORAGE_TIMEOUT"); text != "" {
		var err error
		if seconds, err = strconv.ParseFloat(text, 64); err != nil || seconds < 0 || seconds > 1e6 {
			return nil, failf("storage-unavailable", "VPROXY_STORAGE_TIMEOUT: %q is not a number of seconds", text)
		}
	}
	// argv[0] is the absolute path of the link that was called.
	name := args[0]
	if found, err := exec.LookPath(name); err == nil {
		name = found
	}
	if path, err := filepath.Abs(name); err == nil {
		name = path
	}
	request := encodeASCII(fields{"argv": append([]string{name}, args[1:]...)})
	if length := len(request) - 1; length > storageRequestBytes {
		return nil, failf("storage-bad-request", "storage request: too long: %d bytes (max %d)", length,
			storageRequestBytes)
	}
	conn, failed := dialBroker()
	if failed != nil {
		return nil, failed
	}
	if seconds > 0 {
		conn.SetDeadline(time.Now().Add(time.Duration(seconds * float64(time.Second))))
	}
	_, err := conn.Write(request)
	var o object
	if err == nil {
		_, o, failed = readMessage(conn, "reply", storageReplyBytes+4096)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), failed != nil && failed.code == "storage-timeout":
		return nil, failf("storage-timeout", "no answer within %g s", seconds)
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

func dialBroker() (net.Conn, *failure) {
	paths := storagePaths()
	if path := os.Getenv("VPROXY_STORAGE_SOCKET"); path != "" {
		paths = []string{path}
	}
	whys := []string{}
	for _, path := range paths {
		conn, err := net.Dial("unix", path)
		if err == nil {
			return conn, nil
		}
		whys = append(whys, path+": "+describe(err))
	}
	return nil, failf("storage-unavailable", "no vproxy answers: %s", strings.Join(whys, "; "))
}

// encodeASCII returns a line of JSON without any byte that a locale could spoil.
func encodeASCII(value any) []byte {
	var line, ascii bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	encoder.Encode(value)
	for _, char := range line.String() {
		switch {
		case char < 0x7f:
			ascii.WriteRune(char)
		case char < 0x10000:
			fmt.Fprintf(&ascii, `\u%04x`, char)
		default:
			fmt.Fprintf(&ascii, `\u%04x\u%04x`, 0xd800+(char-0x10000)>>10, 0xdc00+(char-0x10000)&0x3ff)
		}
	}
	return ascii.Bytes()
}

func storageFailure(reason *failure) []byte {
	return append(encode(fields{"error": fields{"code": reason.code, "message": reason.message}}), '\n')
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
