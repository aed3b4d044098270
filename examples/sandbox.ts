/**
 * Uses the guest of a running vproxy as a sandbox: files, commands, a terminal, a port, egress and events.
 *
 *     host:   vproxy --config sandbox.toml --control /run/vproxy/NAME.sock
 *     guest:  vproxy -c … --allow-exec --allow-copy --announce-ports 8080
 *     node dist/examples/sandbox.js /run/vproxy/NAME.sock /tmp/work 8080
 */
import { setTimeout as delay } from 'node:timers/promises';
import { collectOutput, connectControl, FileError, Files } from 'vproxy';

const [, , path = '', folder = '', port = ''] = process.argv;
const vproxy = connectControl(path);
const { label: channel } = await vproxy.waitFor({ service: 'exec' });
const files = new Files(() => vproxy.connect('sftp', { channel }));

// Files.
await files.mkdir(`${folder}/site`, { recursive: true });
await files.write(`${folder}/site/index.html`, 'a page of the sandbox\n');
for (const { name, size } of await files.list(`${folder}/site`)) console.log(`${name}: ${size} bytes`);
const missing = await files.read(`${folder}/none`).catch((error: unknown) => error);
console.log(missing instanceof FileError ? missing.code : 'there is such a file');

// A command, with its input and outputs.
const call = await vproxy.exec(['sort'], { channel, timeoutMs: 10_000 });
call.stdin.end('b\na\n');
const { status, stdout } = await collectOutput(call);
console.log(`sort: status ${status}, ${JSON.stringify(stdout.toString())}`);

// A terminal.
const terminal = { columns: 100, rows: 30, term: 'xterm-256color' };
const shell = await vproxy.exec(['sh', '-c', 'read line; stty size; echo "line: $line"'], { channel, terminal });
shell.resize({ columns: 120, rows: 40 });
shell.stdin.write('typed\n');
console.log((await collectOutput(shell)).stdout.toString().replaceAll('\r', ''));

// A server in the guest, whose port appears here while it runs.
const words = ['python3', '-m', 'http.server', '--bind', '127.0.0.1', '--directory', `${folder}/site`, port];
const server = await vproxy.startJob(words, { channel, tag: 'site' });
const isAnnounced = async () => (await vproxy.ports()).find((one) => one.port === Number(port))?.endpoint;
let endpoint = await isAnnounced();
for (; !endpoint; endpoint = await isAnnounced()) await delay(100);
console.log(`GET /: ${await (await fetch(`http://${endpoint}/`)).text()}`);
await vproxy.stopJob(server.id, { channel });

// What programs of the guest may reach.
const [name, destination] = ['internet', '192.0.2.1:443'];
const isAllowed = async () => (await vproxy.testEgress({ name, channel, destination })).isAllowed;
const before = await isAllowed();
await vproxy.allowEgress({ name, channel, destinations: [destination], forS: 60 });
console.log(`${destination}: ${before}, then ${await isAllowed()}`);

// What has happened.
for await (const { event } of vproxy.events({ replay: 5, follow: false })) console.log(`event ${event}`);
await files.remove(`${folder}/site`, { recursive: true });
