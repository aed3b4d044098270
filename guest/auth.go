package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// key is shared by both sides of a channel (R-AUTH-2).
type key struct {
	id    string
	bytes []byte
}

// parseKey reads the text of a key file; its failure quotes none of it.
func parseKey(text string) (key, error) {
	bytes, err := hex.DecodeString(strings.TrimSuffix(text, "\n"))
	if err != nil || len(bytes) != 32 {
		return key{}, failf("bad-file", "not a key (64 hex digits and a newline); make one with vproxy genkey")
	}
	sum := sha256.Sum256(bytes)
	return key{hex.EncodeToString(sum[:4]), bytes}, nil
}

// keyring has the keys of this side. Without --key they are the files vproxy.key* of $CREDENTIALS_DIRECTORY.
type keyring struct {
	files []string
	keys  atomic.Value // []key
}

func (k *keyring) current() []key { return k.keys.Load().([]key) }

// read reads the files, again on SIGHUP: new sessions use the new keys.
func (k *keyring) read() *failure {
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	files := k.files
	if len(files) == 0 && folder != "" {
		files, _ = filepath.Glob(filepath.Join(folder, "vproxy.key*"))
	}
	keys := []key{}
	for _, file := range files {
		key, err := readKey(file)
		if err != nil {
			return failf("bad-file", "%s: %s", escape(file, 256), describe(err))
		}
		keys = append(keys, key)
	}
	k.keys.Store(keys)
	return nil
}

// readKey reads a key file that nobody else can read: not others, and a group only if it belongs to root.
func readKey(path string) (key, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return key{}, err
	}
	defer file.Close()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(file.Fd()), &stat); err != nil {
		return key{}, err
	}
	isRoots := stat.Uid == 0
	switch {
	case stat.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return key{}, failf("bad-file", "not a file")
	case !isRoots && int(stat.Uid) != os.Geteuid():
		return key{}, failf("bad-file", "belongs to another user; it must belong to root or to this user")
	case stat.Mode&0o037 != 0, stat.Mode&0o040 != 0 && !isRoots:
		return key{}, failf("bad-file", "other users can read it; chmod 600 it")
	}
	text, err := io.ReadAll(io.LimitReader(file, 128))
	if err != nil {
		return key{}, err
	}
	return parseKey(string(text))
}

// proof is what the two sides of a session send each other in AUTH.
type proof struct {
	keyID          string
	sent, expected []byte
}

// newProof chooses the key of a session; nil if neither side requires one.
func newProof(own, peer *hello, keys []key) (*proof, *failure) {
	switch {
	case !own.hasAuth && !peer.hasAuth:
		return nil, nil
	case !own.hasAuth:
		return nil, failf("auth-failed", "the peer requires authentication, but this side has no key")
	case !peer.hasAuth:
		return nil, failf("auth-failed", "this side has a key, but the peer has none")
	case peer.method != pskMethod:
		return nil, failf("auth-failed", "the peer requires %s, which this side does not support", escape(peer.method,
			64))
	}
	preferred, other := own.keyIDs, peer.keyIDs
	if own.nonce < peer.nonce {
		preferred, other = other, preferred
	}
	for _, id := range preferred {
		for _, key := range keys {
			if key.id == id && isAmong(id, other) {
				return &proof{id, key.prove(own, peer), key.prove(peer, own)}, nil
			}
		}
	}
	return nil, failf("auth-failed", "no key in common: %s here, %s at the peer",
		strings.Join(own.keyIDs, ", "), strings.Join(peer.keyIDs, ", "))
}

func (k key) prove(sender, receiver *hello) []byte {
	mac := hmac.New(sha256.New, k.bytes)
	for _, part := range [][]byte{[]byte("vproxy-auth-v1"), sender.payload, receiver.payload} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write(part)
	}
	return mac.Sum(nil)
}
