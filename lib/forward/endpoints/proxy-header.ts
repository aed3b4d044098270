/** The PROXY protocol, version 2, toward a target, so that a server sees which machine and stream it serves. */
import { createHash } from 'node:crypto';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** Version 2, command PROXY. */
const VERSION_COMMAND = 0x21;

/** TCP over IPv6. */
const TCP6 = 0x21;

/** Types of the TLVs after the addresses: the machine's name, and the connection's (PROXY protocol 2.2). */
const TLV_AUTHORITY = 0x02;

const TLV_UNIQUE_ID = 0x05;

/** The network of the machines' addresses, which is unique local (RFC 4193). */
const PREFIX = Buffer.from('fd7670726f787900', 'hex');

/** The origin of a connection. The peer controls none of it. */
interface ProxiedStream {
  readonly label: string;
  readonly streamId: number;
}

/**
 * The header before the first byte. The source is the channel's IPv6 address in `fd76:7072:6f78:7900::/64`, derived from
 * its label, with the stream's number modulo 65,536 as the port; the destination is the first address of that network.
 * They are followed by the label (`PP2_TYPE_AUTHORITY`) and `LABEL/NUMBER` (`PP2_TYPE_UNIQUE_ID`).
 */
export function encodeProxyHeader({ label, streamId }: ProxiedStream): Buffer {
  const destination = Buffer.concat([PREFIX, Buffer.alloc(8)]);
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(streamId & 0xffff);
  const body = Buffer.concat([
    machineAddress(label),
    destination,
    ports,
    encodeFact(TLV_AUTHORITY, label),
    encodeFact(TLV_UNIQUE_ID, `${label}/${streamId}`),
  ]);
  const head = Buffer.alloc(4);
  head[0] = VERSION_COMMAND;
  head[1] = TCP6;
  head.writeUInt16BE(body.length, 2);
  return Buffer.concat([SIGNATURE, head, body]);
}

/** The 16 bytes of a channel's address, derived from its label. */
export function machineAddress(label: string): Buffer {
  return Buffer.concat([PREFIX, createHash('sha256').update(label).digest().subarray(0, 8)]);
}

function encodeFact(type: number, text: string): Buffer {
  const value = Buffer.from(text);
  const head = Buffer.alloc(3);
  head[0] = type;
  head.writeUInt16BE(value.length, 1);
  return Buffer.concat([head, value]);
}
