/** What of the XML of a libvirt domain is about its virtio-serial ports. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { parseXml, type XmlElement } from '../util/xml.js';

/** A virtio-serial port of a domain, with QEMU's end of it. */
export interface DomainPort {
  /** The name that the guest sees. */
  readonly name: string;
  /** What is at the host's end: `unix`, `tcp`, `pty`, `pipe`, `spicevmc`, … */
  readonly type: string;
  /** The attributes of `<source>`: `mode`, `path`, `host`, `service`, … */
  readonly source: ReadonlyMap<string, string>;
  /** `raw`, `telnet`, `tls`, … of TCP. */
  readonly protocol: string;
}

/** A domain. */
export interface Domain {
  readonly isRunning: boolean;
  /** Those with a name, in their order. */
  readonly ports: readonly DomainPort[];
}

/** The domain of what `virsh dumpxml` printed. Throws `bad-file`. */
export function parseDomain(text: string): Domain {
  const root = parseXml(text);
  if (root.name !== 'domain') throw new VproxyError('bad-file', `it is no domain but <${escapeText(root.name, 40)}>`);
  const devices = root.children.filter(({ name }) => name === 'devices').flatMap(({ children }) => children);
  // Only a domain that runs has a number.
  const id = root.attributes.get('id') ?? '';
  return { isRunning: /^\d+$/.test(id), ports: devices.flatMap(parsePort) };
}

function parsePort(device: XmlElement): DomainPort[] {
  const attributesOf = (name: string) => device.children.find((child) => child.name === name)?.attributes;
  const target = attributesOf('target');
  const name = target?.get('name') ?? '';
  if (device.name !== 'channel' || target?.get('type') !== 'virtio' || name === '') return [];
  const type = device.attributes.get('type') ?? '';
  const source = attributesOf('source') ?? new Map<string, string>();
  return [{ name, type, source, protocol: attributesOf('protocol')?.get('type') ?? 'raw' }];
}
