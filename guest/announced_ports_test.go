package main

import (
	"strings"
	"testing"
	"time"
)

func TestPortRanges(t *testing.T) {
	for text, want := range map[string]int{"3000": 1, "3000-9999,18080": 2, "1024-65535": 1, "": 0, "80": 0, "3000-2000": 0,
		"3000-70000": 0, "3000-": 0, "a": 0, "3000,": 0} {
		if ranges, err := parsePortRanges(text); len(ranges) != want || (err == nil) != (want > 0) {
			t.Error(text, ranges, err)
		}
	}
}

func TestListeners(t *testing.T) {
	const tail = " 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0"
	for address, want := range map[string]struct {
		host       string
		port, rank int
	}{
		"0100007F:0BB8":                         {"127.0.0.1", 3000, 0},
		"00000000:0BB8":                         {"127.0.0.1", 3000, 0},
		"0A00000A:FFFF":                         {"10.0.0.10", 65535, 2},
		"00000000000000000000000001000000:0BB8": {"::1", 3000, 1},
		"0000000000000000FFFF00000100007F:0BB8": {"127.0.0.1", 3000, 0},
		"000080FE00000000000000000100000A:0BB8": {"fe80::a00:1", 3000, -1},
	} {
		row := parseListener("   0: " + address + tail)
		if row.host() != want.host || row.port != want.port || row.rank() != want.rank || row.inode != "4711" {
			t.Error(address, row, row.host(), row.rank())
		}
	}
	for _, row := range []string{"", "  sl  local_address rem_address   st", "   0: 0100007F:0BB8 00000000:0000 01" + tail[19:],
		"   0: 0100:0BB8" + tail} {
		if l := parseListener(row); l.port != 0 {
			t.Error(row, l)
		}
	}
}

// TestNewestList: while the peer is paused or has no link, only the newest list of services and the newest PING are kept,
// regardless of how often the ports change (R-SERVICES-1).
func TestNewestList(t *testing.T) {
	for _, isSuspended := range []bool{false, true} {
		s := newTestSession(false)
		s.link.channel.session = s
		if isSuspended {
			s.suspended = time.Now()
		}
		a := announcer{channel: s.link.channel}
		for turn := 0; turn < 5001; turn++ {
			a.announce([]openPort{{3000 + turn%2, "127.0.0.1", ""}})
			s.isAsked, s.isMidFrame = false, true
			s.look()
		}
		s.silence()
		written := string(s.collect(nil))
		if s.over != nil || strings.Count(written, `"ports"`) != 1 || !strings.Contains(written, `"ports":[{"port":3000}]`) ||
			strings.Count(written, string(s.doubt)) != 1 || s.hasFrames() {
			t.Error(isSuspended, s.over, len(written))
		}
	}
}
