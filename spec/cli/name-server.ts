/**
 * A name server and the targets of its names, as a program in a test's own network: `node name-server.js NAME=ADDRESS…`. DNS is
 * on port 53 of 127.0.0.1; it is silent about `*.dead.test`, and other names do not exist. On 127.0.0.2 it is always silent. An
 * echo is on port 7 of all addresses, by TCP and UDP. It logs each question on stderr: `asked NAME TYPE`.
 */
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { formatMessage, parseMessage, RCODE } from '../../lib/system/dns/dns-message.js';
import { formatName } from '../../lib/system/dns/domain-names.js';
import { RECORD_TYPE, typeName } from '../../lib/system/dns/resource-records.js';

const zone = new Map(process.argv.slice(2).map((entry) => entry.split('=') as [string, string]));

const dns = dgram.createSocket('udp4');
dns.on('message', (bytes, { address, port }) => {
  const asked = parseMessage(bytes);
  if (asked === null || asked.question === null) return;
  const { name, type } = asked.question;
  const text = formatName(name).toLowerCase();
  process.stderr.write(`asked ${text} ${typeName(type)}\n`);
  if (text.endsWith('.dead.test.')) return;
  const known = zone.get(text.slice(0, -1));
  const data = Buffer.from((known ?? '').split('.').map(Number));
  const answers = known !== undefined && type === RECORD_TYPE.A ? [{ name, type, ttl: 60, data }] : [];
  const rcode = known === undefined ? RCODE.NXDOMAIN : RCODE.NOERROR;
  dns.send(formatMessage({ ...asked, isResponse: true, canRecurse: true, rcode, answers }, 512), port, address);
});
dns.bind(53, '127.0.0.1');
await once(dns, 'listening');

// Without a socket there, the system would refuse the questions.
const silent = dgram.createSocket('udp4').bind(53, '127.0.0.2');
await once(silent, 'listening');

const tcp = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket)).listen(7, '0.0.0.0');
await once(tcp, 'listening');

const udp = dgram.createSocket('udp4');
udp.on('message', (bytes, { address, port }) => udp.send(bytes, port, address));
udp.bind(7, '0.0.0.0');
await once(udp, 'listening');
process.stderr.write('ready\n');
