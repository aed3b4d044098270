/** DNS messages for specs, and a server on loopback that answers by UDP and TCP on the same port as a spec says. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import type net from 'node:net';
import type { ExecutionContext } from 'ava';
import { systemCode } from '../../lib/errors.js';
import { type EgressRules, parseEgressEntry } from '../../lib/forward/egress/rules.js';
import { type DnsMessage, type DnsQuestion, formatMessage, parseMessage } from '../../lib/system/dns/dns-message.js';
import { type DomainName, formatName, parseName } from '../../lib/system/dns/domain-names.js';
import { frameMessage, MessageFrames } from '../../lib/system/dns/message-frames.js';
import { CLASS_IN, type DnsRecord, RECORD_TYPE, typeName } from '../../lib/system/dns/resource-records.js';
import { localServer } from './local-server.js';

export type TypeName = keyof typeof RECORD_TYPE;

export const nameOf = (text: string): DomainName => parseName(text) ?? Buffer.alloc(1);

export function question(name: string, type: TypeName = 'A', questionClass = CLASS_IN): DnsQuestion {
  return { name: nameOf(name), type: RECORD_TYPE[type], class: questionClass };
}

/** A question as a message; its `edns` accepts 1,232 bytes by default. */
export function query(name: string, type: TypeName = 'A', extra: Partial<DnsMessage> = {}): DnsMessage {
  return {
    ...{ id: 0x1234, isResponse: false, opcode: 0, isTruncated: false, wantsRecursion: true, canRecurse: false },
    ...{
      isAuthentic: false,
      isUnchecked: false,
      rcode: 0,
      question: question(name, type),
      answers: [],
      authorities: [],
    },
    edns: { udpBytes: 1232, version: 0, wantsDnssec: false, errors: [] },
    ...extra,
  };
}

export const bytesOf = (message: DnsMessage): Buffer => formatMessage(message, 65_535);

export const answerTo = (
  asked: DnsMessage,
  answers: readonly DnsRecord[],
  extra: Partial<DnsMessage> = {},
): DnsMessage => Object.assign({ ...asked, isResponse: true, canRecurse: true, answers }, extra);

export function record(name: string, type: TypeName, data: Buffer, ttl = 300): DnsRecord {
  return { name: nameOf(name), type: RECORD_TYPE[type], ttl, data };
}

export const a = (name: string, address: string, ttl = 300): DnsRecord =>
  record(name, 'A', Buffer.from(address.split('.').map(Number)), ttl);

/** `bytes` are hexadecimal. */
export const aaaa = (name: string, bytes: string, ttl = 300): DnsRecord =>
  record(name, 'AAAA', Buffer.from(bytes, 'hex'), ttl);

export const cname = (name: string, target: string, ttl = 300): DnsRecord => record(name, 'CNAME', nameOf(target), ttl);

export function soa(zone: string, minimum: number, ttl = 3600): DnsRecord {
  const numbers = Buffer.alloc(20);
  numbers.writeUInt32BE(minimum, 16);
  return record(zone, 'SOA', Buffer.concat([nameOf(`ns.${zone}`), nameOf(`admin.${zone}`), numbers]), ttl);
}

/** An answer as text: its code, records, and EDNS. */
export function shown(bytes: Buffer | null): string {
  const message = bytes === null ? null : parseMessage(bytes);
  if (message === null) return 'nothing';
  const { rcode, isTruncated, answers, edns } = message;
  const records = answers.map(({ name, type, ttl, data }) => {
    const isAddress = type === RECORD_TYPE.A;
    return `${formatName(name)} ${ttl} ${typeName(type)} ${isAddress ? data.join('.') : data.toString('hex')}`;
  });
  const errors = (edns?.errors ?? []).map(({ code, text }) => `EDE ${code}${text === '' ? '' : ` ${text}`}`);
  return [`rcode ${rcode}`, ...(isTruncated ? ['truncated'] : []), ...records, ...errors].join('; ');
}

export const rulesOf = (allow: readonly string[], deny: readonly string[] = []): EgressRules => ({
  allow: allow.map(parseEgressEntry),
  deny: deny.map(parseEgressEntry),
  upstream: null,
  askMs: null,
});

export type DnsTransport = 'udp' | 'tcp';

/** The answers to a query, in order; bytes are sent unchanged. */
type Script = (asked: DnsMessage, transport: DnsTransport) => readonly (DnsMessage | Buffer)[];

/** A server for `example.org`: for each type the records in its row, and nothing for other names. */
export function zoneServer(t: ExecutionContext, zone: Partial<Readonly<Record<TypeName, readonly DnsRecord[]>>>) {
  return dnsServer(t, (asked, transport) => {
    const { name, type } = asked.question ?? question('x');
    const answers = formatName(name).endsWith('example.org.') ? (zone[typeName(type) as TypeName] ?? []) : [];
    const answer = answerTo(asked, answers, { authorities: [soa('example.org', 60)] });
    // Like a server whose answers fit the requested size.
    return [formatMessage(answer, transport === 'tcp' ? 65_535 : (asked.edns?.udpBytes ?? 512))];
  });
}

export async function dnsServer(t: ExecutionContext, script: Script) {
  const asked: string[] = [];
  /** The queries, in order, and the ports that they came from. */
  const queries: DnsMessage[] = [];
  const ports: number[] = [];
  const answer = (bytes: Buffer, transport: DnsTransport, port: number): Buffer[] => {
    const message = parseMessage(bytes);
    if (message === null || message.question === null) throw new Error(`no question: ${bytes.toString('hex')}`);
    asked.push(`${transport} ${formatName(message.question.name)} ${typeName(message.question.type)}`);
    queries.push(message);
    ports.push(port);
    return script(message, transport).map((one) => (Buffer.isBuffer(one) ? one : bytesOf(one)));
  };
  const serve = (socket: net.Socket): void => {
    const frames = new MessageFrames();
    socket.on('data', (bytes: Buffer) => {
      frames.push(bytes);
      for (let message = frames.next(); message !== null; message = frames.next()) {
        for (const one of answer(message, 'tcp', socket.remotePort ?? 0)) socket.write(frameMessage(one));
      }
    });
  };
  const { udp, port: own } = await bindBeside(() => localServer(t, serve));
  t.teardown(() => new Promise<void>((resolve) => udp.close(() => resolve())));
  udp.on('message', (bytes, { port }) => {
    for (const one of answer(bytes, 'udp', port)) udp.send(one, port, '127.0.0.1');
  });
  return { port: own, asked, queries, ports };
}

/** A UDP socket on the port of a TCP server that `listen` starts, on one after another: either may be another program's. */
export async function bindBeside(
  listen: () => Promise<{ readonly port: number }>,
): Promise<{ readonly udp: dgram.Socket; readonly port: number }> {
  for (;;) {
    const { port } = await listen();
    const udp = dgram.createSocket('udp4').bind(port, '127.0.0.1');
    try {
      await once(udp, 'listening');
      return { udp, port };
    } catch (error) {
      if (systemCode(error) !== 'EADDRINUSE') throw error;
    }
  }
}
