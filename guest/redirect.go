package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	soOriginalDst = 80 // SO_ORIGINAL_DST, and IP6T_SO_ORIGINAL_DST

	maxAnswer = 4096
	// answerTime is longer than an egress may ask an operator.
	answerTime = 630 * time.Second
)

// originalDestination returns where a connection went before nftables redirected it.
func originalDestination(conn socket) (to netip.AddrPort, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return to, err
	}
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return to, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		// These two read as many bytes as a sockaddr_in and a sockaddr_in6 have, and a few more.
		if local.Addr().Unmap().Is4() {
			var found *syscall.IPv6Mreq
			if found, err = syscall.GetsockoptIPv6Mreq(int(fd), syscall.IPPROTO_IP, soOriginalDst); err == nil {
				at := found.Multiaddr
				to = netip.AddrPortFrom(netip.AddrFrom4(*(*[4]byte)(at[4:8])), binary.BigEndian.Uint16(at[2:]))
			}
			return
		}
		var found *syscall.IPv6MTUInfo
		if found, err = syscall.GetsockoptIPv6MTUInfo(int(fd), syscall.IPPROTO_IPV6, soOriginalDst); err == nil {
			port := (*[2]byte)(unsafe.Pointer(&found.Addr.Port))
			to = netip.AddrPortFrom(netip.AddrFrom16(found.Addr.Addr), binary.BigEndian.Uint16(port[:]))
		}
	})
	if controlErr != nil {
		return to, controlErr
	}
	if err != nil || to == netip.AddrPortFrom(local.Addr().Unmap().WithZone(""), local.Port()) {
		return to, errors.New("nftables did not redirect it")
	}
	return to, nil
}

// redirect asks the peer's egress for the destination of a redirected connection, and returns why it was refused. What the program
// sends does not wait for the answer.
func redirect(st *stream, conn socket, to netip.AddrPort) (refused *failure) {
	fmt.Fprintf(st, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\nVproxy-Redirect: 1\r\n\r\n", to)
	splice(st, conn, func() error {
		deadline := time.AfterFunc(answerTime, func() { st.Reset("connect-timeout", "no answer in time") })
		rest, err := readAnswer(st)
		deadline.Stop()
		if err != nil {
			refused = toFailure(err, "connect-refused")
			refused = failf(refused.code, "%s: %s", to, refused.message)
			st.Reset(refused.code, "%s", refused.message)
			abort(conn) // the stream may have ended, which closes it cleanly
			return refused
		}
		if len(rest) > 0 {
			_, err = conn.Write(rest)
		}
		return err
	})
	return refused
}

var answerHead = regexp.MustCompile(
	`^HTTP/1\.[01] ([1-9]\d\d(?: [^\x00-\x08\n-\x1f\x7f]*)?)\r\n(?:[!-9;-~]+:[^\x00-\x08\n-\x1f\x7f]*\r\n)*\r\n$`)

// readAnswer reads the answer to CONNECT, and returns the bytes after it, or what the answer says of a refusal.
func readAnswer(st *stream) (rest []byte, err error) {
	var bytes [maxAnswer]byte
	for size := 0; size < maxAnswer; {
		count, err := st.Read(bytes[size:])
		if err == io.EOF {
			err = errors.New("no answer from the egress")
		}
		if err != nil {
			return nil, err
		}
		size += count
		head, rest, isWhole := strings.Cut(string(bytes[:size]), "\r\n\r\n")
		if !isWhole {
			continue
		}
		found := answerHead.FindStringSubmatch(head + "\r\n\r\n")
		switch {
		case found == nil:
			return nil, errors.New("the service is not an egress: its answer is not HTTP")
		case found[1][0] != '2':
			return nil, errors.New(escape(found[1], 512))
		}
		return []byte(rest), nil
	}
	return nil, errors.New("the service is not an egress: its answer is too long")
}

const nftUsage = "vproxy-guest nft --to ADDR:PORT [--dns ADDR[:PORT]] [--device NAME] prints nftables rules for redirect:.\n"

var nftOptions = map[string]string{"--to": "ADDR:PORT", "--dns": "ADDR[:PORT]", "--device": "NAME"}

var deviceName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,15}$`)

// printRules returns the nftables rules that redirect programs here, as vproxy egress nft prints them.
func printRules(args []string) (rules string, failed *failure) {
	except := `oif "lo"`
	var to, dns string
	for len(args) > 0 {
		name, value, hasValue := strings.Cut(args[0], "=")
		args = args[1:]
		expected, isKnown := nftOptions[name]
		switch {
		case !strings.HasPrefix(name, "-"):
			return "", failf("bad-argument", `unexpected argument "%s"`, escape(name, 64))
		case !isKnown:
			return "", failf("bad-argument", "%s: unknown option; see --help", escape(name, 64))
		case !hasValue && (len(args) == 0 || len(args[0]) > 1 && args[0][0] == '-'):
			return "", failf("bad-argument", "%s: missing value; expected %s %s", name, name, expected)
		case !hasValue:
			value, args = args[0], args[1:]
		}
		if value == "" {
			return "", failf("bad-argument", "%s: empty value", name)
		}
		target, err := netip.ParseAddrPort(value)
		if len(value)-strings.LastIndex(value, ":") > 6 {
			err = errors.New("more than five digits")
		}
		if host, notHost := netip.ParseAddr(value); notHost == nil && name == "--dns" {
			target, err = netip.AddrPortFrom(host, 53), nil
		}
		isTarget := err == nil && target.Port() > 0 && target.Addr().Zone() == ""
		family, ip := "ipv4", "ip"
		if target.Addr().Is6() {
			family, ip = "ipv6", "ip6"
		}
		isTwice := false
		rule := "    meta nfproto " + family + " meta l4proto %s dnat " + ip + " to " + target.String() + "\n"
		switch {
		case name == "--to" && isTarget:
			isTwice = strings.Contains(to, family)
			to += fmt.Sprintf(rule, "tcp")
		case name == "--dns" && isTarget:
			isTwice = strings.Contains(dns, family)
			dns += fmt.Sprintf(rule, "{ tcp, udp } th dport 53")
		case isWord(name, "--to --dns"):
			return "", failf("bad-argument", `%s: "%s" is not ADDR:PORT, such as 127.0.0.1:3129 or [::1]:3129`, name, escape(value, 64))
		case except != `oif "lo"`:
			return "", failf("bad-argument", "--device: given 2 times (max 1)")
		case !deviceName.MatchString(value):
			return "", failf("bad-argument", `--device: "%s" is not the name of a device`, escape(value, 64))
		default:
			except = `oifname != "` + value + `"`
		}
		if isTwice {
			return "", failf("bad-argument", "%s: two addresses of one family; the second would get nothing", name)
		}
	}
	if to == "" {
		return "", failf("bad-argument", "no --to; give one, such as --to 127.0.0.1:3129")
	}
	return "table inet vproxy\ndelete table inet vproxy\ntable inet vproxy {\n  chain output {\n" +
		"    type nat hook output priority -100; policy accept;\n    " + except + " accept\n" + dns + to + "  }\n}\n", nil
}
