/** `vproxy egress nft`: prints the nftables rules that redirect a guest's programs to `redirect:`. vproxy-guest has it, too. */

import { badArgument } from '../../lib/errors.js';
import { DNS_PORT } from '../../lib/system/dns/host-files.js';
import {
  formatAddress,
  formatHostPort,
  type HostPort,
  isIP,
  isIPv6,
  parseAddress,
  parseHostPort,
} from '../../lib/util/addresses/host-port.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Command } from '../command/command.js';
import { print } from '../ui/print.js';

export const command: Command = {
  usage: 'egress nft --to ADDR:PORT [--to ADDR:PORT] [--dns ADDR[:PORT]]... [--device NAME]',
  about:
    'Prints nftables rules that redirect all TCP connections of this machine except to itself to -o SERVICE:redirect:ADDR:PORT, for programs that ignore proxies. Load them with nft -f.',
  examples: [
    ['vproxy egress nft --to 127.0.0.1:3129 --to [::1]:3129 | nft -f -', 'Redirect both families'],
    ['vproxy egress nft --to 127.0.0.1:3129 --device vproxy0', 'Only what has no other route'],
  ],
  options: {
    to: { value: 'ADDR:PORT', isRepeatable: true, describe: 'Where TCP of its family goes, IPv4 or IPv6' },
    dns: { value: 'ADDR[:PORT]', isRepeatable: true, describe: 'Where DNS of its family goes, over UDP and TCP' },
    device: { value: 'NAME', describe: 'Redirect only what leaves by this device' },
  },
  isLocal: true,
  run(args) {
    const to = args.texts('to').map((text) => parseTarget('to', text));
    const dns = args.texts('dns').map((text) => parseTarget('dns', text, DNS_PORT));
    for (const [option, targets] of Object.entries({ to, dns }))
      if (new Set(targets.map(({ host }) => isIPv6(host))).size < targets.length)
        throw badArgument(`--${option}: two addresses of one family; the second would get nothing`);
    const device = args.text('device');
    if (to.length === 0) throw badArgument('no --to; give one, such as --to 127.0.0.1:3129');
    if (device !== undefined && !/^[A-Za-z0-9_.-]{1,15}$/.test(device))
      throw badArgument(`--device: "${escapeText(device, 64)}" is not the name of a device`);
    print(formatRules(to, dns, device ?? null));
    return Promise.resolve();
  },
};

/** Parses an address with a port, which is optional if there is a default. Throws `bad-argument`. */
function parseTarget(option: string, text: string, defaultPort?: number): HostPort {
  try {
    const isHost = defaultPort !== undefined && isIP(text) !== 0;
    const { host, port } = isHost ? { host: text, port: defaultPort } : parseHostPort(text);
    const bytes = parseAddress(host);
    if (bytes !== null) return { host: formatAddress(bytes), port };
  } catch {
    // The message below says more.
  }
  throw badArgument(`--${option}: "${escapeText(text, 64)}" is not ADDR:PORT, such as 127.0.0.1:3129 or [::1]:3129`);
}

function formatRules(to: readonly HostPort[], dns: readonly HostPort[], device: string | null): string {
  const rule = (what: string, target: HostPort): string => {
    const [family, ip] = isIPv6(target.host) ? ['ipv6', 'ip6'] : ['ipv4', 'ip'];
    return `    meta nfproto ${family} ${what} dnat ${ip} to ${formatHostPort(target)}\n`;
  };
  const rules = [
    ...dns.map((target) => rule('meta l4proto { tcp, udp } th dport 53', target)),
    ...to.map((target) => rule('meta l4proto tcp', target)),
  ];
  const other = device === null ? 'oif "lo"' : `oifname != "${device}"`;
  return `table inet vproxy
delete table inet vproxy
table inet vproxy {
  chain output {
    type nat hook output priority -100; policy accept;
    ${other} accept
${rules.join('')}  }
}
`;
}
