/** The threats to vproxy, and the specs that show the guard against each. docs/security.md lists them for readers. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A spec, by its file in `spec/` and its title, or the beginning or end of that. */
export type SpecPlace = readonly [file: string, title: string];

/** Returns an error if the file is missing or contains no such title, else null. */
export function specFault([file, title]: SpecPlace): string | null {
  const path = join('spec', file);
  if (!existsSync(path)) return `${path} does not exist`;
  const text = title.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const quoted = new RegExp(`['\`}]${text}|${text}(?:['\`]|\\$\\{)`);
  return quoted.test(readFileSync(path, 'utf8')) ? null : `${path} has no title "${title}"`;
}

/** By the numbers of docs/security.md: for each threat the titles, by file. */
export const THREATS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  T1: {
    'conformance/cases/frames.ts': ['DATA of 4 GiB', 'SERVICES of 4 GiB', 'an unknown type above limits.frame'],
    'copy/tar-bounds.ts': ['the bytes before an entry are bounded, whatever they are'],
    'hostile/memory/copy-cases.ts': ['records of which nothing but the length comes'],
    'util/bytes/records.ts': ['a length takes no memory before its bytes come'],
    'hostile/opening-cases.ts': ['headers of HELLO with a length of 4 GiB', 'random bytes'],
    'hostile/session-cases.ts': ['DATA one byte over the limit', 'random bytes in a session'],
    'fuzz/targets/index.ts': ['frame-reader', 'tls-records'],
  },
  T2: {
    'hostile/flood-cases.ts': ['OPENs of a service that answers, more', 'OPENs of a service that does not answer'],
    'conformance/cases/streams.ts': ['R-STREAM-1: ids rise, and need not be', 'R-STREAM-5: opens beyond `streams`'],
    'conformance/streams.ts': ['R-STREAM-6: when the ids run out opens'],
  },
  T3: {
    'hostile/flood-cases.ts': ['OPENs that are reset before the answer, and reads'],
    'conformance/flood.ts': ['R-FLOW-6: more than 200 streams per second opened and reset before an answer are'],
    'conformance/cases/streams.ts': [
      'R-STREAM-5: a stream that ended keeps its slot while its bytes are still on this',
    ],
  },
  T4: {
    'hostile/window-cases.ts': ['credit of 2^64-1 on 250 streams whose', 'late PONGs, so that windows grow, and'],
    'hostile/session-cases.ts': ['DATA over the credit of a stream', 'CREDIT that shrinks, overflows, and comes'],
    'conformance/cases/flow-control.ts': ['R-FLOW-2: DATA above the credit of'],
    'conformance/flow-control.ts': ['R-FLOW-4: with the budget full windows'],
  },
  T5: {
    'hostile/flood-cases.ts': ['PINGs', 'RESETs of an id that has', 'unknown types, empty', 'credit for the session'],
    'hostile/session-cases.ts': ['empty DATA'],
    'proxy/many-channels.spec.ts': ['stay within twice the quiet time'],
  },
  T6: {
    'conformance/liveness.ts': ['R-FLOW-9: a frame that stays incomplete for 30 s, with a byte every second, is a'],
    'exec/hostile.spec.ts': ['START times out after ten seconds'],
    'threats/scanner.slow.spec.ts': [
      'a slow peer is not crowded out by another machine',
      'a slow peer is not crowded out by another user',
    ],
  },
  T7: {
    'threats/names.spec.ts': ['T7: a guest names a service, never an address: whatever it names, only offered'],
    'conformance/cases/streams.ts': [
      'R-STREAM-3: a service that is not offered, or has no valid name, is refused with',
    ],
    'forward/service-policy.ts': ['a service that a peer may not open is denied without a reason; others remain'],
  },
  T8: {
    'threats/names.spec.ts': ['T8: no path sent by a guest is used on the host: not in its name, in a service, or'],
    'channel/sockets.spec.ts': ['a file that is not a socket is neither replaced nor removed, and a symbolic link'],
  },
  T9: {
    'threats/names.spec.ts': ['T9: a guest runs no command: its bytes are only input of the command that the'],
    'forward/exec.spec.ts': ['a process and its children are terminated', 'a rule counts processes until they have'],
  },
  T10: {
    'hostile/log.spec.ts': ['a peer cannot forge a line of the log, with '],
    'hostile/log-cases.ts': ['escapes in its name and agent'],
    'hostile/storage-cases.ts': ['a REFUSE full of escapes'],
    'proxy/logs.spec.ts': ['text from a peer cannot forge a line, or control a terminal'],
    'faults/streams.slow.spec.ts': ['1,000 refused streams are at most a few hundred lines in each log, and all are'],
    'hostile/refused.slow.spec.ts': ['at most 64 KiB a second are written about refusals, each is counted'],
    'proxy/log-limit.ts': [': during a flood of refusals, each permitted action is logged at once'],
  },
  T11: {
    'threats/names.spec.ts': ['T11: sessions that end with ever new codes from the peer are one series'],
    'control/metrics.spec.ts': ['no label contains text from a peer'],
  },
  T12: {
    'hostile/opening-cases.ts': ['4,000 open brackets', 'limits in __proto__'],
    'hostile/session-cases.ts': ['OPEN whose service is in __proto__'],
    'hostile/storage-cases.ts': ['100,000 lists in one another'],
    'control/hostile.spec.ts': ['a huge body is refused, and read only up to a limit'],
    'util/bytes/records.ts': ['a payload is a single JSON object with a bounded number of values, or is refused'],
    'exec/messages.ts': ['a command with too many values is refused by the sender, and by the reader before parsing'],
    'copy/messages.ts': ['a name and a hash have their lengths, and an error has both numbers'],
    'fuzz/targets/index.ts': ['json-scanner'],
  },
  T13: {
    'storage/broker.spec.ts': [
      'one at a time; a crash fails only its call',
      ': the reply for a wrapper that disconnects',
    ],
    'hostile/storage.spec.ts': ['whatever a peer answers to storage calls, each ends with its code, and the next'],
  },
  T14: {
    'forward/egress/turns.spec.ts': ['500 refused requests in one piece are answered in order and in turns'],
    'threats/linear.slow.spec.ts': [': no run of bytes takes more than '],
    'cli/names.slow.spec.ts': ['names without an answer block nothing else: an egress, a target, datagrams'],
    'hostile/neighbours.slow.spec.ts': ['stay within twice the quiet time', '800 requests that never end, for which'],
    'proxy/many-channels.spec.ts': ['stay within twice the quiet time'],
    'forward/service-policy.ts': ['the rate limits bytes in both directions, for all streams of the service'],
    'session/paced-sink.ts': ['bytes a second no more reaches local ends from a peer that opens, sends and '],
    'forward/unread-output.spec.ts': ['that never ends is not read endlessly after STOP, and is reset 10 s later'],
  },
  T15: {
    'control/server.spec.ts': ['the socket is private to its owner'],
    'channel/sockets.spec.ts': ['a socket file has mode 0600 before anyone can connect'],
  },
  T16: {
    'forward/socket-access.spec.ts': [
      'a unix socket of an -o has the requested mode',
      'a unix socket of an -o has the requested user',
      'at no moment is a socket file more accessible',
    ],
  },
  T17: {
    'threats/names.spec.ts': ['T17: the opening of a session is carried like any bytes on a stream, at every offset'],
    'proxy/channel-supervision.spec.ts': ['R-CHANNEL-2: a stranger on a listening channel ends no session, and the'],
    'proxy/policies.spec.ts': [' in common carry streams; a stranger gets no session and cannot end theirs'],
    'threats/man-in-the-middle.spec.ts': [': a recorded session replayed to both sides, '],
  },
  T18: {
    'threats/secrets.spec.ts': ['T18: the key is not in the arguments, the environment or the log of a process, nor'],
    'system/files/secret-file.spec.ts': ['a file accessible to other users is not read'],
    'conformance/authentication.ts': ['R-AUTH-2: the id of a key is the start of its SHA-256, and nothing reveals'],
  },
  T19: {
    'threats/sources.spec.ts': ['T19: every package is pinned by its', 'T19: the dependencies are the documented'],
  },
  T20: {
    'fuzz/targets.spec.ts': [': any bytes are read alike in every split, or refused with one of our codes'],
    'hostile/run-table.ts': ['every process has survived all of its cases'],
    'channel/devices.spec.ts': ['a bug that crashes the process leaves the settings as they were'],
  },
  T21: {
    'faults/streams.slow.spec.ts': ['a target that hangs times out, holds up no other stream, and leaves nothing'],
    'conformance/cases/streams.ts': ['R-STREAM-5: opens beyond `opens` are refused, until one is answered'],
  },
  T22: {
    'threats/sources.spec.ts': ['T22: nothing is compressed, so nothing can swell: only the checksum of zlib is'],
  },
  T23: {
    'proxy/services.spec.ts': [
      'without permissions neither',
      'the side that allows it runs',
      'if programs are listed, no',
      'the side that allows it accepts',
    ],
    'proxy/check-options.ts': [' may only with an authenticated peer'],
    'cli/allow.spec.ts': ['nothing is allowed by default'],
  },
  T24: {
    'forward/egress/admission.ts': [' is not a destination', ' is refused, as an', 'any text is a destination'],
    'forward/egress/networks.ts': ['a text is an address exactly if it is one for Node, except for zones'],
  },
  T25: {
    'forward/egress/admission.ts': [' is refused, as an address and behind a name, by rules for everything; an'],
    'forward/egress/dial.spec.ts': ['rebinding: a resolver', 'a name is looked up once', 'an address of this'],
    'cli/names.slow.spec.ts': ['an egress asks for the name that it has checked, not for one derived by resolv.conf'],
  },
  T26: {
    'forward/egress/dial.spec.ts': ['a name that no entry could allow is', 'the addresses of a name are hidden from'],
  },
  T27: {
    'forward/resolver/answer-cost.spec.ts': ['an answer with more records than the limit is refused by its header'],
    'forward/resolver/resolver.ts': ['a name that no', 'an address that the', '30,000 random or', 'beyond 256'],
    'system/dns/dns-message.spec.ts': ['30,000 messages, random or randomly changed, are parsed as a whole or'],
    'forward/resolver/resolver-endpoint.spec.ts': ['questions beyond 5,000 per second wait on a stream, and are'],
  },
  T28: {
    'system/dns/name-servers.spec.ts': ['each question is', 'answers with another id', 'an answer from another'],
    'forward/resolver/resolver.ts': ['the same question at the same time', 'answers are cached by name in any case'],
  },
  T29: {
    'forward/datagram/udp.spec.ts': ['an answer from another', 'each source address has', 'flows are limited to'],
    'forward/datagram/unixgram.spec.ts': ['an answer from another address', 'each sending path has its own flow'],
    'conformance/datagrams.ts': ['R-DGRAM-5: while the flow has unsent', 'R-DGRAM-4: incomplete messages are kept'],
    'hostile/datagram-cases.ts': ['100,000 flows, and leaves', 'messages that are never', 'empty messages on one'],
  },
  T30: {
    'proxy/services.spec.ts': ['by default only channels that lead to a', 'strangers get no answer: a channel open'],
    'info/call.ts': ['a length beyond the bound', 'a text that is too long', 'a peer that never answers, or whose'],
    'cli/info.spec.ts': ['the answer of a hostile peer is escaped, and an invalid answer is rejected'],
  },
};
