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
	"syscall"
	"time"
)

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
		failed = failf("cancelled", "it sent data that was not asked for")
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
