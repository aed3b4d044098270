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

/** By the numbers of docs/security.md. */
export const THREATS: Readonly<Record<string, readonly SpecPlace[]>> = {
  T1: [
    ['conformance/frames.ts', 'DATA of 4 GiB'],
    ['conformance/frames.ts', 'SERVICES of 4 GiB'],
    ['conformance/frames.ts', 'an unknown type above limits.frame'],
    ['copy/tar-bounds.ts', 'the bytes before an entry are bounded, whatever they are'],
    ['hostile/memory/copy-cases.ts', 'records of which nothing but the length comes'],
    ['util/bytes/records.ts', 'a length takes no memory before its bytes come'],
    ['hostile/opening-cases.ts', 'headers of HELLO with a length of 4 GiB'],
    ['hostile/opening-cases.ts', 'random bytes'],
    ['hostile/session-cases.ts', 'DATA one byte over the limit'],
    ['hostile/session-cases.ts', 'random bytes in a session'],
    ['fuzz/targets/index.ts', 'frame-reader'],
    ['fuzz/targets/index.ts', 'tls-records'],
  ],
  T2: [
    ['hostile/flood-cases.ts', 'OPENs of a service that answers, more than may be open'],
    ['hostile/flood-cases.ts', 'OPENs of a service that does not answer'],
    ['conformance/streams.ts', 'R-STREAM-1: ids rise, and need not be consecutive'],
    ['conformance/streams.ts', 'R-STREAM-5: opens beyond `streams` are refused, until a stream has ended'],
    ['conformance/streams.ts', 'R-STREAM-6: when the ids run out opens wait, and the session is renewed when'],
  ],
  T3: [
    ['hostile/flood-cases.ts', 'OPENs that are reset before the answer, and reads'],
    ['conformance/flood.ts', 'R-FLOW-6: more than 200 streams per second opened and reset before an answer are'],
    ['conformance/streams.ts', 'R-STREAM-5: a stream that ended keeps its slot while its bytes are still on this'],
  ],
  T4: [
    ['hostile/window-cases.ts', 'credit of 2^64-1 on 250 streams whose local programs write for ever, and reads'],
    ['hostile/window-cases.ts', 'late PONGs, so that windows grow, and fills them when the local programs stop to'],
    ['hostile/session-cases.ts', 'DATA over the credit of a stream'],
    ['hostile/session-cases.ts', 'CREDIT that shrinks, overflows, and comes again'],
    ['conformance/flow-control.ts', 'R-FLOW-2: DATA above the credit of the session is flow-control, also for streams'],
    ['conformance/flow-control.ts', 'R-FLOW-4: with the budget full windows stop growing, and the stream continues'],
  ],
  T5: [
    ['hostile/flood-cases.ts', 'PINGs'],
    ['hostile/flood-cases.ts', 'RESETs of an id that has ended'],
    ['hostile/flood-cases.ts', 'unknown types, empty'],
    ['hostile/flood-cases.ts', 'credit for the session and for a stream'],
    ['hostile/session-cases.ts', 'empty DATA'],
    ['proxy/many-channels.spec.ts', 'stay within twice the quiet time'],
  ],
  T6: [
    ['conformance/liveness.ts', 'R-FLOW-9: a frame that stays incomplete for 30 s, with a byte every second, is a'],
    ['exec/hostile.spec.ts', 'START times out after ten seconds'],
    ['threats/scanner.slow.spec.ts', 'a slow peer is not crowded out by another machine that opens connections in a'],
    ['threats/scanner.slow.spec.ts', 'a slow peer is not crowded out by another user, who has the same address'],
  ],
  T7: [
    ['threats/names.spec.ts', 'T7: a guest names a service, never an address: whatever it names, only offered'],
    ['conformance/streams.ts', 'R-STREAM-3: a service that is not offered, or has no valid name, is refused with'],
    ['forward/service-policy.ts', 'a service that a peer may not open is denied without a reason; others remain open'],
  ],
  T8: [
    ['threats/names.spec.ts', 'T8: no path sent by a guest is used on the host: not in its name, in a service, or in'],
    ['channel/sockets.spec.ts', 'a file that is not a socket is neither replaced nor removed, and a symbolic link is'],
  ],
  T9: [
    ['threats/names.spec.ts', 'T9: a guest runs no command: its bytes are only input of the command that the operator'],
    ['forward/exec.spec.ts', 'a process and its children are terminated with their stream, and killed if they do not'],
    ['forward/exec.spec.ts', 'a rule counts processes until they have exited: with opens and resets in a loop, in'],
  ],
  T10: [
    ['hostile/log.spec.ts', 'a peer cannot forge a line of the log, with '],
    ['hostile/log-cases.ts', 'escapes in its name and agent'],
    ['hostile/storage-cases.ts', 'a REFUSE full of escapes'],
    ['proxy/logs.spec.ts', 'text from a peer cannot forge a line, or control a terminal'],
    ['faults/streams.slow.spec.ts', '1,000 refused streams are at most a few hundred lines in each log, and all are'],
    ['hostile/refused.slow.spec.ts', 'at most 64 KiB a second are written about refusals, each is counted'],
    ['proxy/log-limit.ts', ': during a flood of refusals, each permitted action is logged at once'],
  ],
  T11: [
    ['threats/names.spec.ts', 'T11: sessions that end with ever new codes from the peer are one series'],
    ['control/metrics.spec.ts', 'no label contains text from a peer'],
  ],
  T12: [
    ['hostile/opening-cases.ts', '4,000 open brackets'],
    ['hostile/opening-cases.ts', 'limits in __proto__'],
    ['hostile/session-cases.ts', 'OPEN whose service is in __proto__'],
    ['hostile/storage-cases.ts', '100,000 lists in one another'],
    ['control/hostile.spec.ts', 'a huge body is refused, and read only up to a limit'],
    ['util/bytes/records.ts', 'a payload is a single JSON object with a bounded number of values, or is refused'],
    ['exec/messages.ts', 'a command with too many values is refused by the sender, and by the reader before parsing'],
    ['copy/messages.ts', 'a name and a hash have their lengths, and an error has both numbers'],
    ['fuzz/targets/index.ts', 'json-scanner'],
  ],
  T13: [
    ['storage/broker.spec.ts', 'one at a time; a crash fails only its call'],
    ['storage/broker.spec.ts', ': the reply for a wrapper that disconnects reaches no other call'],
    ['hostile/storage.spec.ts', 'whatever a peer answers to storage calls, each ends with its code, and the next one'],
  ],
  T14: [
    ['forward/egress/turns.spec.ts', '500 refused requests in one piece are answered in order and in turns'],
    ['threats/linear.slow.spec.ts', ': no run of bytes takes more than '],
    ['cli/names.slow.spec.ts', 'names without an answer block nothing else: an egress, a target, datagrams'],
    ['hostile/neighbours.slow.spec.ts', 'stay within twice the quiet time'],
    ['hostile/neighbours.slow.spec.ts', '800 requests that never end, for which an upgrade waits'],
    ['proxy/many-channels.spec.ts', 'stay within twice the quiet time'],
    ['forward/service-policy.ts', 'the rate limits bytes in both directions, for all streams of the service together,'],
    ['session/paced-sink.ts', 'bytes a second no more reaches local ends from a peer that opens, sends and '],
    ['forward/unread-output.spec.ts', 'that never ends is not read endlessly after STOP, and is reset 10 s later'],
  ],
  T15: [
    ['control/server.spec.ts', 'the socket is private to its owner'],
    ['channel/sockets.spec.ts', 'a socket file has mode 0600 before anyone can connect'],
  ],
  T16: [
    ['forward/socket-access.spec.ts', 'a unix socket of an -o has the requested mode'],
    ['forward/socket-access.spec.ts', 'a unix socket of an -o has the requested user and group'],
    ['forward/socket-access.spec.ts', 'at no moment is a socket file more accessible than requested'],
  ],
  T17: [
    ['threats/names.spec.ts', 'T17: the opening of a session is carried like any bytes on a stream, at every offset'],
    ['proxy/channel-supervision.spec.ts', 'R-CHANNEL-2: a stranger on a listening channel ends no session, and the'],
    ['proxy/policies.spec.ts', ' in common carry streams; a stranger gets no session and cannot end theirs'],
    ['threats/man-in-the-middle.spec.ts', ': a recorded session replayed to both sides, '],
  ],
  T18: [
    ['threats/secrets.spec.ts', 'T18: the key is not in the arguments, the environment or the log of a process, nor'],
    ['system/files/secret-file.spec.ts', 'a file accessible to other users is not read'],
    ['conformance/authentication.ts', 'R-AUTH-2: the id of a key is the start of its SHA-256, and nothing reveals'],
  ],
  T19: [
    ['threats/sources.spec.ts', 'T19: every package is pinned by its hash, and no required one runs an install script'],
    ['threats/sources.spec.ts', 'T19: the dependencies are the documented ones, and vproxy runs no install script'],
  ],
  T20: [
    ['fuzz/targets.spec.ts', ': any bytes are read alike in every split, or refused with one of our codes'],
    ['hostile/run-table.ts', 'every process has survived all of its cases'],
    ['channel/devices.spec.ts', 'a bug that crashes the process leaves the settings as they were'],
  ],
  T21: [
    ['faults/streams.slow.spec.ts', 'a target that hangs times out, holds up no other stream, and leaves nothing'],
    ['conformance/streams.ts', 'R-STREAM-5: opens beyond `opens` are refused, until one is answered'],
  ],
  T22: [
    ['threats/sources.spec.ts', 'T22: nothing is compressed, so nothing can swell: only the checksum of zlib is used'],
  ],
  T23: [
    ['proxy/services.spec.ts', 'without permissions neither side may run commands or copy files'],
    ['proxy/services.spec.ts', 'the side that allows it runs commands for the other, which runs none in return'],
    ['proxy/services.spec.ts', 'if programs are listed, no other is run'],
    ['proxy/services.spec.ts', 'the side that allows it accepts files, only into its folder, and under its rules'],
    ['proxy/check-options.ts', ' may only with an authenticated peer'],
    ['cli/allow.spec.ts', 'nothing is allowed by default'],
  ],
  T24: [
    ['forward/egress/admission.ts', ' is not a destination'],
    ['forward/egress/admission.ts', ' is refused, as an address and behind a name, by rules for everything; an entry'],
    ['forward/egress/admission.ts', 'any text is a destination in one spelling, which a URL reads alike, or is'],
    ['forward/egress/networks.ts', 'a text is an address exactly if it is one for Node, except for zones'],
  ],
  T25: [
    ['forward/egress/admission.ts', ' is refused, as an address and behind a name, by rules for everything; an entry'],
    ['forward/egress/dial.spec.ts', 'rebinding: a resolver that changes its answer is asked once, and only a judged'],
    ['forward/egress/dial.spec.ts', 'a name is looked up once, and only those of its addresses are tried'],
    ['cli/names.slow.spec.ts', 'an egress asks for the name that it has checked, not for one derived by resolv.conf'],
    ['forward/egress/dial.spec.ts', 'an address of this machine is refused, as listed by the system and by nothing'],
  ],
  T26: [
    ['forward/egress/dial.spec.ts', 'a name that no entry could allow is never looked up'],
    ['forward/egress/dial.spec.ts', 'the addresses of a name are hidden from the guest, and logged on the host'],
  ],
  T27: [
    ['forward/resolver/answer-cost.spec.ts', 'an answer with more records than the limit is refused by its header'],
    ['forward/resolver/resolver.ts', 'a name that no entry allows is refused, with a reason for the guest and the log'],
    ['forward/resolver/resolver.ts', 'an address that the egress refuses is omitted: '],
    ['forward/resolver/resolver.ts', '30,000 random or randomly changed messages are each answered, or dropped'],
    ['forward/resolver/resolver.ts', 'beyond 256 questions in flight further ones fail, while cached answers are'],
    ['system/dns/dns-message.spec.ts', '30,000 messages, random or randomly changed, are parsed as a whole or'],
    ['forward/resolver/resolver-endpoint.spec.ts', 'questions beyond 5,000 per second wait on a stream, and are'],
  ],
  T28: [
    ['system/dns/name-servers.spec.ts', 'each question is separate: an unpredictable id and port'],
    ['system/dns/name-servers.spec.ts', 'answers with another id or question, queries, and short messages are'],
    ['system/dns/name-servers.spec.ts', 'an answer from another address does not arrive'],
    ['forward/resolver/resolver.ts', 'the same question at the same time waits for the same answer'],
    ['forward/resolver/resolver.ts', 'answers are cached by name in any case, type, DO and CD, and returned in the'],
  ],
  T29: [
    ['forward/datagram/udp.spec.ts', 'an answer from another address does not arrive'],
    ['forward/datagram/udp.spec.ts', 'each source address has its own flow, and answers go nowhere else'],
    ['forward/datagram/udp.spec.ts', 'flows are limited to half of the streams that the peer accepts; the one idle'],
    ['forward/datagram/unixgram.spec.ts', 'an answer from another address does not arrive'],
    ['forward/datagram/unixgram.spec.ts', 'each sending path has its own flow, and answers go nowhere else'],
    ['conformance/datagrams.ts', 'R-DGRAM-5: while the flow has unsent bytes the newest '],
    ['conformance/datagrams.ts', 'R-DGRAM-4: incomplete messages are kept only within the bound'],
    ['hostile/datagram-cases.ts', '100,000 flows, and leaves them open'],
    ['hostile/datagram-cases.ts', 'messages that are never complete, on as many flows as allowed'],
    ['hostile/datagram-cases.ts', 'empty messages on one flow, as fast as allowed'],
  ],
  T30: [
    ['proxy/services.spec.ts', 'by default only channels that lead to a host offer `info`'],
    ['proxy/services.spec.ts', 'strangers get no answer: a channel open to them needs a key'],
    ['info/call.ts', 'a length beyond the bound'],
    ['info/call.ts', 'a text that is too long'],
    ['info/call.ts', 'a peer that never answers, or whose answer never ends, times out after 15 s'],
    ['cli/info.spec.ts', 'the answer of a hostile peer is escaped, and an invalid answer is rejected'],
  ],
};
