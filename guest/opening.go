package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// limits is what a side accepts (R-OPEN-4).
type limits [len(limitRules)]int

// hello is a HELLO (R-OPEN-4). Texts that are absent are empty.
type hello struct {
	payload                           []byte
	minVersion, maxVersion            int64
	nonce, ack, instance, agent, name string
	limits                            limits
	isFull, requiresTLS               bool
	features                          []string
	// hasAuth: the side requires a proof by method, with one of keys.
	hasAuth bool
	method  string
	keyIDs  []string
}

// frame returns the magic and the HELLO, and keeps the payload, which the proof of a key covers.
func (h *hello) frame() []byte {
	accepted := fields{}
	for index, rule := range limitRules {
		accepted[rule.name] = h.limits[index]
	}
	hello := fields{"version": fields{"min": h.minVersion, "max": h.maxVersion}, "nonce": h.nonce, "ack": orNull(h.ack),
		"instance": h.instance, "agent": h.agent, "name": orNull(h.name), "limits": accepted, "features": h.features,
		"integrity": either(h.isFull, "full", "frame"), "auth": nil}
	if h.hasAuth {
		hello["auth"] = fields{"method": h.method, "keys": h.keyIDs}
	}
	h.payload = encode(hello)
	return appendFrame([]byte(magic), frameHello, 0, h.payload, 0)
}

// parseHello parses the payload of a HELLO, or returns nil (R-OPEN-5).
func parseHello(payload []byte) *hello {
	o := parseObject(payload, "HELLO")
	version, accepted := o.object("version"), o.object("limits")
	h := &hello{
		payload:    append([]byte(nil), payload...),
		minVersion: version.integer("min", 0, 1e300), maxVersion: version.integer("max", 0, 1e300),
		nonce: o.text("nonce"), ack: optional[string](o, "ack"), instance: optional[string](o, "instance"),
		agent: optional[string](o, "agent"), name: optional[string](o, "name"), isFull: o.text("integrity") == "full",
		requiresTLS: optional[bool](o, "tls"), hasAuth: o.has("auth"),
	}
	for index, rule := range limitRules {
		h.limits[index] = int(accepted.integer(rule.name, float64(rule.min), float64(rule.max)))
	}
	if o.has("features") {
		h.features = o.texts("features", isAny)
	}
	if h.hasAuth {
		auth := o.object("auth")
		if h.method, _ = auth.fields["method"].(string); h.method == pskMethod {
			h.keyIDs = auth.texts("keys", func(id string) bool { return isHex(id, 8) })
		}
	}
	_, hasAck := o.fields["ack"]
	isValid := hasAck && isHex(h.nonce, 32) && (!o.has("ack") || isHex(h.ack, 32)) && h.minVersion <= h.maxVersion &&
		(!o.has("instance") || isHex(h.instance, 32)) && (h.isFull || o.text("integrity") == "frame")
	if *o.failed != nil || !isValid {
		return nil
	}
	return h
}

// readHello reads a magic and the HELLO after it, and returns their length; the HELLO is nil if it is invalid.
func readHello(from *bufio.Reader) (*hello, int, error) {
	const start = len(magic) + headerBytes
	bytes, err := from.Peek(start)
	if err != nil {
		return nil, 0, err
	}
	h, ok := readHeader(bytes[len(magic):], 0)
	if !ok || h.kind != frameHello || h.flags != 0 || h.stream != 0 || h.length > maxControlBytes {
		return nil, 0, nil
	}
	if bytes, err = from.Peek(start + int(h.length)); err != nil || crc32.ChecksumIEEE(bytes[start:]) != h.crc {
		return nil, 0, err
	}
	return parseHello(bytes[start:]), start + int(h.length), nil
}

const (
	repeatEvery = time.Second
	quietTime   = 5 * time.Second
	attemptTime = 5 * time.Second
	maxAttempt  = 40 * time.Second
	// After a failure that needs an operator, the next attempt may wait longer.
	maxHopelessPause = time.Minute
)

// opening is a handshake: flush, magic and HELLO, until both sides have seen each other (R-OPEN-1 to R-OPEN-11).
type opening struct {
	own        *hello // nil: no handshake
	peerNonce  string
	owesAnswer bool // to the peer's newest nonce: bytes of this side are queued
	attempts   backoff
	patience   time.Duration // of this attempt, with a peer that has an answer
}

// open begins a handshake.
func (l *link) open() {
	first := l.next
	l.next, l.attempts = nil, 0
	l.attempt(first)
}

// attempt begins an attempt; first is a HELLO that came earlier, or nil.
func (l *link) attempt(first *hello) {
	l.silence()
	l.patience = l.attempts.delay(attemptTime, maxAttempt)
	c := l.channel
	l.own = &hello{minVersion: protocolVersion, maxVersion: protocolVersion, nonce: newNonce(), instance: c.instance,
		agent: "vproxy-guest " + version, name: c.name, limits: c.spec.limits, isFull: c.spec.isFull, method: pskMethod}
	for _, key := range c.keys {
		l.own.hasAuth = true
		l.own.keyIDs = append(l.own.keyIDs, key.id)
	}
	l.own.features = c.features(l.own.keyIDs)
	l.put(make([]byte, c.spec.limits[frameLimit]+headerBytes))
	l.peerNonce, l.owesAnswer = "", false
	if first != nil {
		l.peerNonce, l.own.ack = first.nonce, first.nonce
		l.answer()
	} else {
		l.put(l.own.frame())
		l.alarm("quiet", quietTime, func() {
			c.tell("channel-waiting", "no answer on %s: no vproxy at the other end yet, or another process has the channel",
				c.spec.text)
		})
	}
	l.repeatLater()
}

func (l *link) repeatLater() {
	l.alarm("repeat", repeatEvery, func() {
		if !l.isBusy() {
			l.put(l.own.frame())
		}
		l.repeatLater()
	})
}

// answer writes the answer to the peer's newest nonce.
func (l *link) answer() {
	l.owesAnswer = false
	l.silence("quiet")
	l.put(l.own.frame())
	l.alarm("attempt", l.patience, func() {
		// Otherwise a HELLO lost after the other side was established would keep the two apart forever.
		l.raw = nil
		l.attempt(nil)
	})
}

// takeHello handles a HELLO outside a session.
func (l *link) takeHello(peer *hello) {
	switch {
	case peer.instance == l.channel.instance || l.own != nil && peer.nonce == l.own.nonce:
		if l.own != nil {
			l.channel.tell("channel-echo", "%s echoes everything sent: is the line raw, and is vproxy running at the other end?",
				l.channel.spec.text)
		}
		return
	case l.own == nil:
		l.next = peer
		return
	case peer.nonce != l.peerNonce:
		l.peerNonce, l.own.ack, l.owesAnswer = peer.nonce, peer.nonce, true
	}
	isEstablished := peer.ack == l.own.nonce
	// The answer that establishes the peer must not be lost.
	if l.owesAnswer && (isEstablished || !l.isBusy()) {
		l.answer()
	}
	if isEstablished {
		l.establish(peer)
	}
}

// establish begins the session that two HELLOs agree on, ends it at once, or resumes one that both name.
func (l *link) establish(peer *hello) {
	s, what, known := newSession(l, l.own, peer), "key", l.channel.session
	l.silence()
	l.own, l.session = nil, s
	areBoth := func(name string) bool { return isAmong(name, s.own.features) && isAmong(name, peer.features) }
	switch {
	case known != nil && areBoth(known.id):
		s.resumes, what = known, "session"
	case areBoth(resumeFeature):
		s.limit = l.channel.spec.resumeMemory
	}
	proof, failed := s.agree(l.channel.keys)
	if s.isBroken(failed) {
		return
	}
	s.alarm("look", lookEvery, s.look)
	s.alarm("proof", proofTime, func() { s.fail("auth-failed", "the peer did not prove its %s within 10 s", what) })
	if proof == nil {
		s.becomeReady()
		return
	}
	s.proof = *proof
	s.control(frameAuth, 0, proof.sent)
}

// reopen begins a handshake after a session that was on the link since began, at once or after a pause (R-OPEN-12).
func (l *link) reopen(since time.Time, code string) {
	switch {
	case l.closed != nil || l.isLast:
	case isWord(code, "auth-failed version-mismatch"):
		l.alarm("pause", l.pauses.delay(firstRetry, maxHopelessPause), l.open)
	case time.Since(since) < shortSession:
		l.alarm("pause", l.pauses.delay(firstRetry, maxRetry), l.open)
	default:
		l.pauses = 0
		l.open()
	}
}

// key is a key shared by both sides of a channel (R-AUTH-2).
type key struct {
	id    string
	bytes []byte
}

// readKeys reads the keys for new sessions: without --key, the files vproxy.key and vproxy.key.* in $CREDENTIALS_DIRECTORY.
func (c *channel) readKeys(files []string) *failure {
	keys := []key{}
	if folder := os.Getenv("CREDENTIALS_DIRECTORY"); len(files) == 0 && folder != "" {
		entries, err := os.ReadDir(folder)
		if err != nil && !os.IsNotExist(err) { // without its keys, any peer would do
			return failf("bad-file", "$CREDENTIALS_DIRECTORY: %s: %s", escape(folder, 256), describe(err))
		}
		for _, each := range entries {
			if name := each.Name(); name == "vproxy.key" || strings.HasPrefix(name, "vproxy.key.") {
				files = append(files, filepath.Join(folder, name))
			}
		}
	}
	for _, file := range files {
		key, err := readKey(file)
		if err != nil {
			return failf("bad-file", "%s: %s", escape(file, 256), describe(err))
		}
		keys = append(keys, key)
	}
	defer c.lock()()
	c.keys = keys
	return nil
}

// readKey reads a key file, which must be private: others cannot read it, and a group only if the file is root's and this process is not.
func readKey(path string) (key, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return key{}, err
	}
	defer file.Close()
	var stat syscall.Stat_t
	syscall.Fstat(int(file.Fd()), &stat)
	switch {
	case stat.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return key{}, failf("bad-file", "not a file")
	case stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return key{}, failf("bad-file", "belongs to another user; it must belong to root or to this user")
	case stat.Mode&0o037 != 0, stat.Mode&0o040 != 0 && int(stat.Uid) == os.Geteuid():
		return key{}, failf("bad-file", "other users can read it; "+secretRemedy)
	}
	text, _ := io.ReadAll(io.LimitReader(file, 128))
	bytes, err := hex.DecodeString(strings.TrimSuffix(string(text), "\n"))
	if err != nil || len(bytes) != 32 { // do not quote it
		return key{}, failf("bad-file", "not a key: %d bytes instead of 64 hex digits and a newline; %s", len(text), keyRemedy)
	}
	sum := sha256.Sum256(bytes)
	return key{hex.EncodeToString(sum[:4]), bytes}, nil
}

// proof is the AUTH exchange of a session.
type proof struct {
	keyID          string
	sent, expected []byte
}

// agree chooses the key of two HELLOs, nil if neither side requires one, or returns why they make no session. A resumed
// session has its own key.
func (s *session) agree(keys []key) (*proof, *failure) {
	own, peer := s.own, s.peer
	switch {
	case peer.minVersion > own.maxVersion || peer.maxVersion < own.minVersion:
		return nil, failf("version-mismatch", "no common protocol version: %d–%d here, %d–%d at the peer",
			own.minVersion, own.maxVersion, peer.minVersion, peer.maxVersion)
	case peer.requiresTLS:
		return nil, failf("auth-failed", "the peer requires TLS, which vproxy-guest does not have; "+
			"give both sides the same key with --key FILE in place of tls=")
	case isAmong("busy", peer.features) && s.resumes == nil:
		return nil, failf("channel-busy", "the listener is in use by another peer")
	case !own.hasAuth && len(keys) > 0:
		return nil, failf("auth-failed", "this side got a key while the connection waited")
	case !own.hasAuth && !peer.hasAuth:
		return nil, nil
	case !own.hasAuth:
		return nil, failf("auth-failed", "the peer requires authentication, but this side has no key")
	case !peer.hasAuth:
		return nil, failf("auth-failed", "this side has a key, but the peer has none")
	case peer.method != pskMethod:
		return nil, failf("auth-failed", "the peer requires %s, which this side does not support",
			escape(peer.method, 64))
	}
	preferred, other := own.keyIDs, peer.keyIDs
	if own.nonce < peer.nonce {
		preferred, other = other, preferred
	}
	for _, id := range preferred {
		for _, key := range keys {
			if key.id == id && isAmong(id, other) && (s.resumes == nil || s.resumes.proof.keyID == id) {
				prove := func(from, to *hello) []byte {
					return authenticate(key.bytes, []byte("vproxy-auth-v1"), from.payload, to.payload)
				}
				return &proof{id, prove(own, peer), prove(peer, own)}, nil
			}
		}
	}
	if s.resumes != nil {
		return nil, failf("auth-failed", "the session to resume was proved with another key")
	}
	return nil, failf("auth-failed", "no key in common: %s here, %s at the peer",
		strings.Join(own.keyIDs, ", "), strings.Join(peer.keyIDs, ", "))
}

// authenticate returns the HMAC over byte strings, each preceded by its length.
func authenticate(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, part := range parts {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write(part)
	}
	return mac.Sum(nil)
}
