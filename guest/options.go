package main

import (
	"fmt"
	"strings"
)

// options are those of the command line.
type options struct {
	channel                    *channelSpec
	incoming, outgoing         []*forward
	name, storageSocket        string
	keys, programs             []string
	info                       *bool
	verbose                    int
	allowsExec, noStorage      bool
	isQuiet, isHelp, isVersion bool
}

// option is one that vproxy has, too, with the same meaning.
type option struct {
	names, value string // the long one, and a letter; what the value is called, empty: none
	isMany       bool
	help         string
	set          func(o *options, value string) error
}

var optionTable = []option{
	{"channel c", "CHANNEL", true, "channel (required): KIND:ADDRESS[,key=value...], of the kinds below",
		func(o *options, value string) (err error) {
			if o.channel != nil {
				return failf("bad-argument", "-c: vproxy-guest has one channel; take vproxy for several")
			}
			o.channel, err = parseChannel(value)
			return err
		}},
	{"outgoing o", "FORWARD", true,
		"listen here for the peer's SERVICE: SERVICE:[ADDR:]PORT or SERVICE:/path[,mode=0660]",
		func(o *options, value string) error {
			f, err := parseForward("-o", value)
			o.outgoing = append(o.outgoing, f)
			return err
		}},
	{"incoming i", "FORWARD", true, "offer SERVICE to the peer: SERVICE:[ADDR:]PORT or SERVICE:/path",
		func(o *options, value string) error {
			f, err := parseForward("-i", value)
			o.incoming = append(o.incoming, f)
			return err
		}},
	{"name", "TEXT", false, "name of this side, shown to the peer",
		func(o *options, value string) error { o.name = value; return nil }},
	{"key", "FILE", true, "file with a key that the peer must have too; vproxy genkey makes one",
		func(o *options, value string) error { o.keys = append(o.keys, value); return nil }},
	{"allow-exec", "[=/PATH,...]", false, "let the peer run commands here: any, or only these programs",
		func(o *options, value string) error {
			o.allowsExec = true
			for _, path := range strings.Split(strings.ReplaceAll(value, ",,", "\x00"), ",") {
				if path = strings.ReplaceAll(path, "\x00", ","); !strings.HasPrefix(path, "/") {
					return failf("bad-argument",
						`--allow-exec: "%s" is not the absolute path of a program, such as /usr/bin/uname`,
						escape(path, 256))
				}
				o.programs = append(o.programs, path)
			}
			return nil
		}},
	{"info", "", false, "let the peer ask about this machine, even if the peer is not a host",
		func(o *options, _ string) error { o.info = new(bool); *o.info = true; return nil }},
	{"no-info", "", false, "never let the peer ask about this machine [default: a host may]",
		func(o *options, _ string) error { o.info = new(bool); return nil }},
	{"storage-socket", "PATH", false, "path of the storage broker's socket; runs the broker on any kind of channel",
		func(o *options, value string) (err error) { o.storageSocket, err = parsePath(value); return err }},
	{"no-storage", "", false, "never run the storage broker",
		func(o *options, _ string) error { o.noStorage = true; return nil }},
	{"verbose v", "", true, "log every stream and call", func(o *options, _ string) error { o.verbose++; return nil }},
	{"quiet q", "", true, "log only warnings and errors", func(o *options,
		_ string) error {
		o.isQuiet = true
		return nil
	}},
	{"version V", "", true, "show the version", func(o *options, _ string) error { o.isVersion = true; return nil }},
	{"help h", "", true, "show this help", func(o *options, _ string) error { o.isHelp = true; return nil }},
}

func usage() string {
	text := "Usage: vproxy-guest -c CHANNEL [-o FORWARD]... [-i FORWARD]... [options]\n\n" +
		"Runs the guest's side of a channel, with these options of vproxy. For all others take vproxy.\n\n"
	for _, each := range optionTable {
		long, letter, hasLetter := strings.Cut(each.names, " ")
		if letter = "    "; hasLetter {
			letter = "-" + each.names[len(each.names)-1:] + ", "
		}
		text += fmt.Sprintf("  %s--%-24s %s\n", letter, strings.Replace(long+" "+each.value, " [", "[", 1), each.help)
	}
	return text +
		"\nChannels: virtserial-open:NAME or /path, tty-open:/path[,baud=N], unix-connect:/path, unix-listen:/path,\n" +
		"vsock-connect:CID:PORT, vsock-listen:PORT, stdio:\n\n" +
		"Called by another name, such as through a link storcli64, it makes a storage call.\n"
}

func parseOptions(args []string) (*options, error) {
	o := &options{}
	given := map[string]int{}
	for len(args) > 0 {
		word, value, hasValue := args[0], "", false
		args = args[1:]
		name := word
		switch {
		case strings.HasPrefix(word, "--") && len(word) > 3:
			name, value, hasValue = strings.Cut(word, "=")
		case len(word) > 1 && word[0] == '-':
			name, value, hasValue = word[:2], word[2:], len(word) > 2
		default:
			return nil, failf("bad-argument", `"%s": no such command; vproxy-guest has none, see --help`, escape(word,
				128))
		}
		var each *option
		for index := range optionTable {
			if isWord(strings.TrimLeft(name, "-"), optionTable[index].names) {
				each = &optionTable[index]
			}
		}
		switch {
		case each == nil:
			return nil, failf("bad-argument", "%s: unknown option; see --help, or take vproxy, which has more",
				escape(name, 64))
		case each.value == "" && hasValue && len(name) == 2: // letters in a row, such as -vv
			args = append([]string{"-" + value}, args...)
		case each.value == "" && hasValue:
			return nil, failf("bad-argument", "%s: takes no value", name)
		case each.value == "" || hasValue:
		case each.value[0] == '[':
			o.allowsExec = true
			continue
		case len(args) == 0:
			return nil, failf("bad-argument", "%s: missing value; expected %s", name, each.help)
		default:
			value, args = args[0], args[1:]
		}
		if given[each.names]++; given[each.names] > 1 && !each.isMany {
			return nil, failf("bad-argument", "%s: given %d times (max 1)", name, given[each.names])
		}
		if err := each.set(o, value); err != nil {
			return nil, err
		}
	}
	switch {
	case o.isHelp || o.isVersion:
	case o.isQuiet && o.verbose > 0:
		return nil, failf("bad-argument", "-q: not allowed with -v")
	case o.channel == nil:
		return nil, failf("bad-argument",
			"no channel; give one with -c, such as -c virtserial-open:org.vproxy.0 (see --help)")
	}
	return o, nil
}
